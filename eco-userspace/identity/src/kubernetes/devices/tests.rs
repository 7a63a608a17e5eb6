// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{path::PathBuf, thread};

use proptest::prelude::*;
use tokio::net::UnixListener;
use ureq::http::Response;

use super::*;

/// A field of bytes, as protobuf writes it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// One pod whose one container has two GPUs, and a field that nobody knows.
fn answer() -> Vec<u8> {
    let ids = [field(2, b"GPU-1::0"), field(2, b"MIG-2")].concat();
    let devices = [field(1, b"nvidia.com/gpu"), ids, vec![0x38, 0x96, 0x01]].concat();
    let container = [field(2, &devices), field(1, b"main")].concat();
    let pod = [field(3, &container), field(1, b"train-0"), field(2, b"ml")].concat();
    field(1, &pod)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// A kubelet that answers one call with `body`, in pieces, and then `status`.
fn kubelet(body: Vec<u8>, status: &'static str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubelet.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut server = h2::server::handshake(socket).await.unwrap();
            while let Some(call) = server.accept().await {
                let (request, mut respond) = call.unwrap();
                assert_eq!(request.uri().path(), "/v1.PodResourcesLister/List");
                let head = Response::builder().header("content-type", "application/grpc");
                let mut stream = respond
                    .send_response(head.body(()).unwrap(), false)
                    .unwrap();
                for piece in body.chunks(1000) {
                    stream.send_data(piece.to_vec().into(), false).unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                stream.send_trailers(trailers).unwrap();
            }
        });
    });
    (folder, path)
}

#[test]
fn a_kubelet_tells_who_has_which_gpu() {
    let (_folder, path) = kubelet(framed(&answer()), "0");
    let devices = list(&path).unwrap();
    assert_eq!(devices.len(), 2);
    let first = &devices[0];
    assert_eq!((first.hardware(), first.id.as_str()), ("GPU-1", "GPU-1::0"));
    assert_eq!(first.resource, "nvidia.com/gpu");
    assert_eq!(
        (first.namespace.as_str(), first.pod.as_str()),
        ("ml", "train-0")
    );
    assert_eq!(first.container, "main");
    assert_eq!(devices[1].hardware(), "MIG-2");
    assert!(first.is_copy() && !devices[1].is_copy());
}

#[test]
fn a_long_answer_comes_in_pieces() {
    let many = answer().repeat(5000);
    let (_folder, path) = kubelet(framed(&many), "0");
    assert_eq!(list(&path).unwrap().len(), 10_000);
}

#[test]
fn a_kubelet_that_refuses_or_talks_nonsense_is_an_error() {
    let (_folder, path) = kubelet(Vec::new(), "8");
    assert!(matches!(list(&path), Err(DevicesError::Status(status)) if status.starts_with('8')));
    let (_folder, path) = kubelet(b"nonsense".to_vec(), "0");
    assert!(matches!(list(&path), Err(DevicesError::Shape)));
    let (_folder, path) = kubelet(framed(b"\xff\xff"), "0");
    assert!(matches!(list(&path), Err(DevicesError::Shape)));
    let nowhere = Path::new("/nonexistent/kubelet.sock");
    assert!(matches!(list(nowhere), Err(DevicesError::Connect(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = wire::devices(&bytes);
        let _ = unframed(&bytes);
    }

    #[test]
    fn an_answer_cut_anywhere_is_a_shorter_one_or_none(cut in 0..100usize) {
        let whole = answer();
        let part = &whole[..cut.min(whole.len() - 1)];
        prop_assert!(wire::devices(part).is_none_or(|devices| devices.is_empty()));
    }
}
