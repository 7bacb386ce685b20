//! Serving a client over the standard streams.

use crate::{
    desk::{Desk, Phase},
    server::Server,
};
use rmcp::{RoleServer, ServiceExt, transport::IntoTransport};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

/// How often the server looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// Left to answers that are under way when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A client cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system gives no threads or descriptors.
    #[error("cannot serve: {0}")]
    System(#[from] io::Error),
    /// An address that other machines reach.
    #[error(
        "{0} is no address of this machine alone\nhint: use `127.0.0.1:PORT`; from another machine, forward the port with `ssh -L`"
    )]
    Address(SocketAddr),
    /// An address cannot be had.
    #[error(
        "cannot listen at {address}: {source}\nhint: name another port; 0 takes any that is free"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// What came in is not the protocol.
    #[error(
        "the client does not speak the protocol: {0}\nhint: `forerunner mcp` is started by an MCP client, which talks to it over its standard input and output; docs/mcp.md shows how to configure one"
    )]
    Client(String),
}

/// Serves the client at standard input and output until it goes away. `leave` is asked again and
/// again: once it says so and the run is over, nobody is waited for any more. Also ends when the run
/// could not even begin.
///
/// # Errors
/// When what comes in is not the protocol.
pub fn serve_stdio(
    desk: &Arc<Desk>,
    client: Option<String>,
    leave: &(dyn Fn() -> bool + Sync),
) -> Result<(), ServeError> {
    let runtime = runtime()?;
    let server = Server::new(Arc::clone(desk), client);
    let served = runtime.block_on(async {
        // Within the runtime: pipes are registered with it.
        serve(server, rmcp::transport::stdio_pipes(), desk, leave).await
    });
    // A read of standard input that blocks must not keep the process.
    runtime.shutdown_background();
    served
}

/// One thread is enough for what waits most of the time.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Returns when nobody is waited for any more: the run is over and `leave` says so, or it could not
/// even begin.
pub(crate) async fn until_unwanted(desk: &Desk, leave: &(dyn Fn() -> bool + Sync)) {
    loop {
        match desk.phase() {
            Phase::Over(end) if end.at_start || leave() => break,
            _ => tokio::time::sleep(LOOK).await,
        }
    }
    tokio::time::sleep(LAST_WORDS).await;
}

async fn serve<T, E, A>(
    server: Server,
    transport: T,
    desk: &Desk,
    leave: &(dyn Fn() -> bool + Sync),
) -> Result<(), ServeError>
where
    T: IntoTransport<RoleServer, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    use rmcp::service::ServerInitializeError;
    let session = async {
        match server.serve(transport).await {
            Ok(running) => {
                // It ended, one way or the other.
                drop(running.waiting().await);
                Ok(())
            }
            Err(ServerInitializeError::ConnectionClosed(_)) => {
                Err(ServeError::Client("it went away before its `initialize` request".to_owned()))
            }
            Err(ServerInitializeError::ExpectedInitializeRequest(_)) => {
                Err(ServeError::Client("its first message is no `initialize` request".to_owned()))
            }
            Err(other) => Err(ServeError::Client(other.to_string())),
        }
    };
    tokio::select! {
        ended = session => ended,
        () = until_unwanted(desk, leave) => Ok(()),
    }
}
