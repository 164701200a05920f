//! One connection through the proxy, from its acceptance to its end.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio::try_join;

use super::Shared;
use super::ending::{Ending, cut, reset, truncate};
use super::handle::Direction;
use super::pump::Pump;
use super::registration::Registration;

pub(super) async fn run_connection(registration: Registration, mut client: TcpStream) {
    let Some(mut upstream) = connect_upstream(&registration.shared).await else {
        return reset(client);
    };
    // This fails only on a socket that is already dead, which the pumps will notice.
    let _ = client.set_nodelay(true).and(upstream.set_nodelay(true));
    let Err(ending) = run_pumps(&registration, &mut client, &mut upstream).await else {
        return;
    };
    match ending {
        Ending::Cut => cut(registration, client, upstream).await,
        Ending::Reset => [client, upstream].into_iter().for_each(reset),
        Ending::Truncated(direction) => {
            registration.handle.reset();
            match direction {
                Direction::ToUpstream => truncate(client, upstream).await,
                Direction::ToClient => truncate(upstream, client).await,
            }
        }
    }
}

/// Ignores orders for now. The server may have accepted already, and must then see the same end as
/// the client.
async fn connect_upstream(shared: &Shared) -> Option<TcpStream> {
    let upstream = shared.settings.borrow().upstream;
    timeout(CONNECT_DEADLINE, TcpStream::connect(upstream)).await.ok()?.ok()
}

/// Returns `Ok` once each side has closed its direction and the other has been told.
async fn run_pumps(
    registration: &Registration,
    client: &mut TcpStream,
    upstream: &mut TcpStream,
) -> Result<(), Ending> {
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let up = Pump::new(Direction::ToUpstream, registration, from_client, to_upstream);
    let down = Pump::new(Direction::ToClient, registration, from_upstream, to_client);
    try_join!(up.run(), down.run()).map(|_| ())
}

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
