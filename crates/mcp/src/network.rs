//! Serving many clients of one run over HTTP, on this machine alone.

use crate::{
    access::Access,
    desk::Desk,
    serve::{ServeError, runtime, until_unwanted},
    server::{ClientName, Server},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rmcp::transport::{
    StreamableHttpServerConfig, StreamableHttpService,
    streamable_http_server::session::local::LocalSessionManager,
};
use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

/// Where the server is below its address.
pub const PATH: &str = "/mcp";
/// Most bytes of a request: a change, its idea, and what JSON adds to them.
const MAX_REQUEST: usize = 16 << 20;
/// A session without any traffic ends after this.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// Left to a moment without descriptors.
const BREATH: Duration = Duration::from_millis(100);

type Service = StreamableHttpService<Server, LocalSessionManager>;
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Opens a port of this machine.
///
/// # Errors
/// When the address is one that other machines reach, or cannot be had.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::Address(address));
    }
    TcpListener::bind(address).map_err(|source| ServeError::Bind { address, source })
}

/// Serves every client that `access` admits, until `leave` says so and the run is over; or the run
/// could not even begin.
///
/// # Errors
/// When the system gives no threads or descriptors.
pub fn serve_http(
    desk: &Arc<Desk>,
    listener: TcpListener,
    access: Access,
    leave: &(dyn Fn() -> bool + Sync),
) -> Result<(), ServeError> {
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let for_service = Arc::clone(desk);
        // No page in a browser has any business here.
        let config = StreamableHttpServerConfig::default()
            .with_max_request_body_bytes(MAX_REQUEST)
            .enforce_origin_validation();
        let service = Service::new(
            move || Ok(Server::new(Arc::clone(&for_service), None)),
            Arc::new(sessions()),
            config,
        );
        let accept = accept(&listener, service, Arc::new(access));
        tokio::select! {
            never = accept => never,
            () = until_unwanted(desk, leave) => Ok(()),
        }
    });
    runtime.shutdown_background();
    served
}

/// Sessions outlive whatever an agent or its person does in between.
fn sessions() -> LocalSessionManager {
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(KEEP);
    sessions
}

async fn accept(
    listener: &tokio::net::TcpListener,
    service: Service,
    access: Arc<Access>,
) -> Result<(), ServeError> {
    loop {
        // A client that gave up, or a lack of descriptors, is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let (service, access) = (service.clone(), Arc::clone(&access));
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(|request| {
                let (service, access) = (service.clone(), Arc::clone(&access));
                async move { Ok::<_, Infallible>(answer(request, &service, &access).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            // What a client makes of its connection is its own affair.
            drop(connection.await);
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    service: &Service,
    access: &Access,
) -> Response<Body> {
    let header = request.headers().get(header::AUTHORIZATION);
    let Some(name) = access.admit(header.and_then(|value| value.to_str().ok())) else {
        let mut refused = plain(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        let scheme = header::HeaderValue::from_static("Bearer");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        return refused;
    };
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "the server is at /mcp\n");
    }
    if let Some(name) = name {
        request.extensions_mut().insert(ClientName(name));
    }
    service.handle(request).await.map(BodyExt::boxed_unsync)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_outlives_a_night() {
        let kept = sessions().session_config.keep_alive;
        assert!(kept.is_some_and(|kept| kept > Duration::from_secs(12 * 60 * 60)), "{kept:?}");
    }
}
