// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device plug-in of the project's own: a real kubelet really gives its devices to pods, though
//! there are none.
//!
//! The kubelet's device plug-in API is five methods on the plug-in's socket and one on the
//! kubelet's, all gRPC (`v1beta1`, stable since Kubernetes 1.10). That is `h2` and some messages,
//! which stand here as Rust, as in the agent's own client of pod-resources.

mod messages;

use std::{
    collections::{BTreeSet, HashMap},
    fs, future,
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use prost::Message;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::{Builder, Runtime},
    sync::oneshot,
};

use self::messages::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, ContainerDevices, Device,
    DevicePluginOptions, ListAndWatchResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest,
};
use crate::wait;

/// Where a container reads which devices it has: the variable that NVIDIA's plug-in sets.
pub const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What this plug-in wants: to be asked which devices go well together.
const OPTIONS: DevicePluginOptions = DevicePluginOptions {
    pre_start_required: false,
    get_preferred_allocation_available: true,
};

/// A plug-in that is registered. Dropped, it ends, and no pod gets its devices any more.
pub struct DevicePlugin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl DevicePlugin {
    /// Offers devices with these ids as `resource`, as `nvidia.com/gpu`, to the kubelet whose
    /// folder for plug-ins that is.
    ///
    /// # Errors
    /// When the kubelet does not come, or refuses.
    pub fn register(
        folder: &Path,
        resource: &str,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        let kubelet = folder.join("kubelet.sock");
        wait::until("the kubelet takes device plug-ins", || kubelet.exists())?;
        let endpoint = format!("{}.sock", resource.replace('/', "-"));
        let socket = folder.join(&endpoint);
        let listener = StdListener::bind(&socket).with_context(|| socket.display().to_string())?;
        listener.set_nonblocking(true)?;
        let devices = Arc::new(Devices(ids.into_iter().collect()));
        let serving = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            serving.block_on(async {
                tokio::select! {
                    _ = serve(listener, devices) => {}
                    _ = stopped => {}
                }
            });
        });
        let plugin = Self {
            stop: Some(stop),
            thread: Some(thread),
            socket,
        };
        let request = RegisterRequest {
            version: "v1beta1".into(),
            endpoint,
            resource_name: resource.into(),
            options: Some(OPTIONS),
        };
        runtime()?.block_on(register(&kubelet, &request))?;
        Ok(plugin)
    }
}

impl Drop for DevicePlugin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

async fn register(kubelet: &Path, request: &RegisterRequest) -> Result<()> {
    let socket = UnixStream::connect(kubelet).await?;
    let (client, connection) = h2::client::handshake(socket).await?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let head = Request::post("http://localhost/v1beta1.Registration/Register")
        .header(header::CONTENT_TYPE, GRPC)
        .header(header::TE, "trailers")
        .body(())?;
    let (response, mut sender) = client.ready().await?.send_request(head, false)?;
    sender.send_data(framed(request).into(), true)?;
    let (head, mut body) = response.await?.into_parts();
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk?.len())?;
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        _ => bail!("the kubelet refuses {}: {trailers:?}", request.endpoint),
    }
}

async fn serve(listener: StdListener, devices: Arc<Devices>) -> Result<()> {
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(converse(socket, Arc::clone(&devices)));
    }
}

/// Answers the calls of one connection, each beside the others: one of them lasts.
async fn converse(socket: UnixStream, devices: Arc<Devices>) -> Result<()> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let devices = Arc::clone(&devices);
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let asked = read(request.into_body()).await?;
            let mut head = Response::new(());
            head.headers_mut().insert(header::CONTENT_TYPE, GRPC);
            let mut stream = respond.send_response(head, false)?;
            let answer = devices.answer(&path, &asked);
            if let Ok(Answer { message, lasts }) = &answer {
                stream.send_data(message.clone().into(), false)?;
                if *lasts {
                    // Nothing ever changes of it; ends with the runtime.
                    future::pending::<()>().await;
                }
            }
            let status = answer.map_or_else(|refusal| refusal as u16, |_| 0);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.into());
            stream.send_trailers(trailers)?;
            anyhow::Ok(())
        });
    }
    Ok(())
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        bytes.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(bytes)
}

/// A message in gRPC's length-prefixed frame, not compressed.
fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = message.len() as u32;
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

/// The message in such a frame.
fn unframed<T: Message + Default>(frame: &[u8]) -> Result<T, Refusal> {
    let message = frame.get(5..).ok_or(Refusal::InvalidArgument)?;
    T::decode(message).map_err(|_| Refusal::InvalidArgument)
}

/// The devices there are, by id.
struct Devices(BTreeSet<String>);

#[derive(Debug)]
struct Answer {
    /// In its frame.
    message: Vec<u8>,
    /// Whether more may follow.
    lasts: bool,
}

/// A status of gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    InvalidArgument = 3,
    Unimplemented = 12,
}

impl Devices {
    fn answer(&self, path: &str, asked: &[u8]) -> Result<Answer, Refusal> {
        let method = path.strip_prefix("/v1beta1.DevicePlugin/");
        let message = match method.ok_or(Refusal::Unimplemented)? {
            "GetDevicePluginOptions" => framed(&OPTIONS),
            "ListAndWatch" => framed(&self.list()),
            "GetPreferredAllocation" => framed(&prefer(&unframed(asked)?)),
            "Allocate" => framed(&self.allocate(unframed(asked)?)?),
            _ => return Err(Refusal::Unimplemented),
        };
        Ok(Answer {
            message,
            lasts: path.ends_with("/ListAndWatch"),
        })
    }

    fn list(&self) -> ListAndWatchResponse {
        let device = |id: &String| Device {
            id: id.clone(),
            health: "Healthy".into(),
        };
        ListAndWatchResponse {
            devices: self.0.iter().map(device).collect(),
        }
    }

    fn allocate(&self, asked: AllocateRequest) -> Result<AllocateResponse, Refusal> {
        let of_container = |devices: ContainerDevices| {
            if !devices.ids.iter().all(|id| self.0.contains(id)) {
                return Err(Refusal::InvalidArgument);
            }
            let envs = HashMap::from([(VISIBLE.to_owned(), devices.ids.join(","))]);
            Ok(ContainerAllocateResponse { envs })
        };
        let containers = asked.container_requests.into_iter().map(of_container);
        Ok(AllocateResponse {
            container_responses: containers.collect::<Result<_, _>>()?,
        })
    }
}

/// The first that are there, beside those that it must be.
fn prefer(asked: &PreferredAllocationRequest) -> PreferredAllocationResponse {
    let containers = asked.container_requests.iter().map(|container| {
        let mut free: Vec<&String> = container.available.iter().collect();
        free.sort_unstable();
        free.retain(|id| !container.must_include.contains(id));
        let ids = container.must_include.iter().chain(free);
        let size = usize::try_from(container.allocation_size).unwrap_or(0);
        ContainerDevices {
            ids: ids.take(size).cloned().collect(),
        }
    });
    PreferredAllocationResponse {
        container_responses: containers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::ContainerPreferredAllocationRequest;

    fn ids(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn devices() -> Devices {
        Devices(ids("b a c").into_iter().collect())
    }

    fn call<T: Message + Default>(method: &str, asked: &impl Message) -> Result<T, Refusal> {
        let path = format!("/v1beta1.DevicePlugin/{method}");
        let answer = devices().answer(&path, &framed(asked))?;
        assert_eq!(answer.lasts, method == "ListAndWatch");
        unframed(&answer.message)
    }

    #[test]
    fn all_devices_are_listed_and_healthy() {
        let list: ListAndWatchResponse = call("ListAndWatch", &OPTIONS).unwrap();
        let told: Vec<_> = list.devices.iter().map(|d| (&*d.id, &*d.health)).collect();
        assert_eq!(told, [("a", "Healthy"), ("b", "Healthy"), ("c", "Healthy")]);
    }

    #[test]
    fn a_container_is_told_which_devices_it_has_and_gets_none_that_are_not_there() {
        let allocate = |wanted: &str| {
            let asked = AllocateRequest {
                container_requests: vec![ContainerDevices { ids: ids(wanted) }],
            };
            let answer: AllocateResponse = call("Allocate", &asked)?;
            Ok(answer.container_responses[0].envs[VISIBLE].clone())
        };
        assert_eq!(allocate("c a"), Ok("c,a".to_owned()));
        assert_eq!(allocate("a d"), Err(Refusal::InvalidArgument));
    }

    #[test]
    fn what_must_be_included_is_preferred() {
        let prefer = |allocation_size| {
            let asked = PreferredAllocationRequest {
                container_requests: vec![ContainerPreferredAllocationRequest {
                    available: ids("c b a"),
                    must_include: ids("b"),
                    allocation_size,
                }],
            };
            let answer: PreferredAllocationResponse =
                call("GetPreferredAllocation", &asked).unwrap();
            answer.container_responses[0].ids.join(" ")
        };
        assert_eq!([2, 9, 0, -1].map(prefer), ["b a", "b a c", "", ""]);
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let answer = |path: &str, bytes: &[u8]| devices().answer(path, bytes).unwrap_err();
        assert_eq!(
            answer("/v1beta1.DevicePlugin/Fly", &[]),
            Refusal::Unimplemented
        );
        assert_eq!(answer("/", &[]), Refusal::Unimplemented);
        for bytes in [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 1, 0xff]] {
            let refused = answer("/v1beta1.DevicePlugin/Allocate", bytes);
            assert_eq!(refused, Refusal::InvalidArgument);
        }
    }
}
