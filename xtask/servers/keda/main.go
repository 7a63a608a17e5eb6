// SPDX-License-Identifier: Apache-2.0 OR MIT

// Command keda asks an external scaler what KEDA would ask it, through KEDA's own client:
//
//	keda [-tls] ADDRESS METHOD NAMESPACE [KEY=VALUE…]
//
// METHOD is one of the five of externalscaler.proto. The answer, or the first of a stream, is
// printed as JSON; an error of the scaler's is its code and message on stderr, and status 1.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Keeps a test from hanging on a scaler that does.
const patience = 30 * time.Second

func main() {
	secure := flag.Bool("tls", false, "as a trigger with enableTLS and unsafeSsl")
	flag.Parse()
	if flag.NArg() < 3 {
		fmt.Fprintln(os.Stderr, "usage: keda [-tls] ADDRESS METHOD NAMESPACE [KEY=VALUE…]")
		os.Exit(2)
	}
	answer, err := ask(*secure, flag.Arg(0), flag.Arg(1), object(flag.Arg(2), flag.Args()[3:]))
	if err != nil {
		said := status.Convert(err)
		fmt.Fprintf(os.Stderr, "%s: %s\n", said.Code(), said.Message())
		os.Exit(1)
	}
	fmt.Println(protojson.Format(answer))
}

func object(namespace string, pairs []string) *pb.ScaledObjectRef {
	metadata := map[string]string{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		metadata[key] = value
	}
	return &pb.ScaledObjectRef{Name: "tested", Namespace: namespace, ScalerMetadata: metadata}
}

func ask(secure bool, address, method string, object *pb.ScaledObjectRef) (proto.Message, error) {
	transport := insecure.NewCredentials()
	if secure {
		transport = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	scaler := pb.NewExternalScalerClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch method {
	case "IsActive":
		return scaler.IsActive(ctx, object)
	case "GetMetricSpec":
		return scaler.GetMetricSpec(ctx, object)
	case "GetMetrics":
		return metrics(ctx, scaler, object)
	case "StreamIsActive":
		stream, err := scaler.StreamIsActive(ctx, object)
		if err != nil {
			return nil, err
		}
		return stream.Recv()
	case "StreamMetricSpec":
		stream, err := scaler.StreamMetricSpec(ctx, object)
		if err != nil {
			return nil, err
		}
		return stream.Recv()
	}
	return nil, fmt.Errorf("there is no method %s", method)
}

// What KEDA does: the name of the metric is the one that the scaler has given it.
func metrics(ctx context.Context, scaler pb.ExternalScalerClient, object *pb.ScaledObjectRef) (proto.Message, error) {
	spec, err := scaler.GetMetricSpec(ctx, object)
	if err != nil {
		return nil, err
	}
	return scaler.GetMetrics(ctx, &pb.GetMetricsRequest{
		ScaledObjectRef: object,
		MetricName:      spec.MetricSpecs[0].MetricName,
	})
}
