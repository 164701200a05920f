//! How a connection ends: closed in order, reset, or reset after everything that was passed has
//! arrived.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::fs::read_to_string;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::join;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::handle::Direction;
use super::registration::Registration;

/// How the proxy ends a connection that its sides do not close themselves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Cut,
    Reset,
    /// Reset after the receiver of this direction has been sent everything that was passed.
    Truncated(Direction),
}

/// Closes both sides in order. The rest of the input is read until the peers have closed too,
/// because dropping a socket with unread bytes would reset it.
pub(super) async fn cut(registration: Registration, mut client: TcpStream, mut upstream: TcpStream) {
    // This fails on a side that is already closed.
    let _ = client.shutdown().await;
    let _ = upstream.shutdown().await;
    drop(registration);
    let (mut from_client, mut from_upstream) = (sink(), sink());
    let drained = async {
        join!(
            copy(&mut client, &mut from_client),
            copy(&mut upstream, &mut from_upstream)
        )
    };
    let _ = timeout(LAST_WORDS, drained).await;
}

pub(super) fn reset(side: TcpStream) {
    // This fails only on a socket that is already dead.
    let _ = side.set_zero_linger();
}

pub(super) async fn truncate(sender: TcpStream, receiver: TcpStream) {
    reset(sender);
    // The receiver is reset afterwards, within the deadline or not.
    let _ = timeout(LAST_WORDS, wait_until_acknowledged(&receiver)).await;
    reset(receiver);
}

/// Waits until the peer's kernel has received everything. A reset discards what is unsent, and may
/// overtake what was sent.
///
/// There is no event for this, and SIOCOUTQ needs unsafe code, so this reads the same number from a
/// file on Linux. Where the file cannot be read it does not wait.
async fn wait_until_acknowledged(stream: &TcpStream) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    let path = if local.is_ipv4() {
        "/proc/net/tcp"
    } else {
        "/proc/net/tcp6"
    };
    while let Ok(sockets) = read_to_string(path).await {
        if !has_unacknowledged(&sockets, local, peer) {
            return;
        }
        sleep(ACKNOWLEDGEMENT_PAUSE).await;
    }
}

/// Parses the table described in the kernel's `Documentation/networking/proc_net_tcp.rst`.
fn has_unacknowledged(sockets: &str, local: SocketAddr, peer: SocketAddr) -> bool {
    let ends = [kernel_notation(local), kernel_notation(peer)];
    sockets.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_ours = ends.iter().all(|end| fields.next() == Some(end));
        let queues = fields.nth(1).unwrap_or_default();
        is_ours && !queues.starts_with("00000000:")
    })
}

/// Formats the address as the kernel does: each 32 bits as a native number, then the port.
fn kernel_notation(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let words = words.map(|word| format!("{word:08X}")).collect::<String>();
    format!("{words}:{:04X}", address.port())
}

/// How long a peer may take to close after a cut, or to read the last bytes before a reset.
const LAST_WORDS: Duration = Duration::from_secs(10);
const ACKNOWLEDGEMENT_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_socket_is_found_in_the_kernels_table_by_both_its_ends() {
        let line = "  3: 0100007F:1F90 0200007F:C350 01 00000005:00000000 00:00000000 00000000 0 0 1";
        let [local, peer] = ["127.0.0.1:8080", "127.0.0.2:50000"].map(|address| address.parse().unwrap());
        assert!(has_unacknowledged(line, local, peer));
        assert!(!has_unacknowledged(line, peer, local));
        assert!(!has_unacknowledged(
            &line.replace("00000005:", "00000000:"),
            local,
            peer
        ));
        let address = "[2001:db8::ff]:80".parse().unwrap();
        assert_eq!(kernel_notation(address), "B80D01200000000000000000FF000000:0050");
    }
}
