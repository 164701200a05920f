//! NATS as a cluster of servers of which one dies, and servers that are too slow for NATS.

use std::env;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stillhere_client::Route;
use stillhere_nats::{NatsStore, NatsStoreOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::balancer::Balancer;
use crate::node::{Count, Node, until};
use crate::support::{NatsServer, free_port};
use crate::{connect, echo, node, recv, three_nodes};

/// Starts three servers as one cluster of NATS.
fn start_cluster() -> [NatsServer; 3] {
    let ports = [free_port(), free_port(), free_port()];
    let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
    ports.map(|port| {
        let cluster = format!("name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}]");
        NatsServer::start_with(&format!("server_name: n{port}\ncluster {{ {cluster} }}\n"))
    })
}

/// Creates the stream of durable sessions on all three servers, once they have found each other.
async fn create_stream(nats: &NatsServer) {
    let began = Instant::now();
    let mut options = NatsStoreOptions::default();
    options.replicas = 3;
    loop {
        let client = async_nats::connect(nats.url()).await.expect("NATS runs");
        match NatsStore::new(client, options.clone()).await {
            Ok(_) => return,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}

/// Each of the three dies once, so the leader of the stream is among them.
#[tokio::test]
async fn sessions_go_on_while_one_server_of_a_nats_cluster_after_the_other_dies() {
    if env::var_os("STILLHERE_LONG").is_none() {
        return eprintln!("runs with --long");
    }
    let mut nats = start_cluster();
    create_stream(&nats[0]).await;
    let nodes = [
        Node::start_durable(&nats[0]).await,
        Node::start_durable(&nats[1]).await,
        Node::start_durable(&nats[2]).await,
    ];
    let all_know_all = || nodes.iter().all(|node| node.cluster.servers().count() == 3);
    until("all servers know all", all_know_all).await;
    let kinds = nodes.each_ref().map(Node::counters);
    let direct = Balancer::start(&[nodes[0].address], 0).await;
    let through = Balancer::start(&[nodes[1].address], 0).await;
    let clients = [
        connect(&kinds[0].open(Count { count: 0 }), &direct, Route::WebSocket),
        connect(&kinds[0].open(Count { count: 0 }), &through, Route::WebSocket),
    ];
    let plain = connect(&nodes[0].hub.open(node::echo), &through, Route::WebSocket);
    let mut count = 0u64;
    for (number, victim) in nats.iter_mut().enumerate() {
        for round in 0..20 {
            count += 1;
            let began = Instant::now();
            for client in &clients {
                assert_eq!(&*echo(client, "x").await, count.to_string().as_bytes());
            }
            assert_eq!(&*echo(&plain, "x").await, b"x");
            if round == 10 {
                println!("{:?} after the end of server {number}", began.elapsed());
            }
            if round == 9 {
                victim.kill();
            }
        }
        victim.restart();
        until("the servers are ready", || {
            nodes.iter().all(|node| node.cluster.is_ready())
        })
        .await;
    }
}

/// Reads how many clients NATS has disconnected because they did not read.
async fn slow_consumers(monitor: SocketAddr) -> u64 {
    let mut connection = TcpStream::connect(monitor).await.expect("NATS listens");
    let request = b"GET /varz HTTP/1.0\r\n\r\n";
    connection.write_all(request).await.expect("NATS reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("NATS answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
    let varz: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    varz["slow_consumers"].as_u64().expect("it is a number")
}

#[tokio::test]
async fn a_server_that_is_too_slow_for_nats_loses_its_connection_and_no_message() {
    let monitor = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let nats = NatsServer::start_with(&format!("http: \"{monitor}\"\nmax_pending: 1MB\n"));
    let [a, b, _c] = three_nodes(&nats).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let session = a.hub.open(node::echo);
    let client = connect(&session, &balancer, Route::WebSocket);
    echo(&client, "before").await;
    let thaw = b.freeze().await;
    session.send("during").await.expect("the session lives");
    // All servers are to read this. It is more than the sockets of one hold.
    let stranger = async_nats::connect(nats.url()).await.expect("NATS runs");
    let began = Instant::now();
    while slow_consumers(monitor).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "NATS has room for all");
        let noise = vec![0; 500_000];
        stranger
            .publish("stillhere.servers", noise.into())
            .await
            .expect("NATS runs");
        stranger.flush().await.expect("NATS runs");
    }
    println!("NATS gave up after {:?}", began.elapsed());
    drop(thaw);
    assert_eq!(&*recv(&client).await, b"during");
    assert_eq!(&*echo(&client, "after").await, b"after");
}

/// Sends 1 MiB, whenever it is asked to.
async fn download(mut session: stillhere::Session) {
    while session.recv().await.is_some() {
        for part in 0..PARTS {
            if session.send(vec![part; PART]).await.is_err() {
                return;
            }
        }
    }
}

const PARTS: u8 = 64;
const PART: usize = 16 * 1024;

#[tokio::test]
async fn busy_hops_fit_into_a_small_buffer_of_nats() {
    let monitor = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let nats = NatsServer::start_with(&format!("http: \"{monitor}\"\nmax_payload: 64KB\nmax_pending: 64KB\n"));
    let [a, b, _c] = three_nodes(&nats).await;
    let balancer = Balancer::start(&[b.address], 0).await;
    let began = Instant::now();
    let mut downloads = Vec::new();
    for _ in 0..20 {
        let session = a.hub.open(download);
        let client = connect(&session, &balancer, Route::WebSocket);
        downloads.push(tokio::spawn(async move {
            client.send("x").await.expect("the session lives");
            for part in 0..PARTS {
                assert!(*recv(&client).await == [part; PART][..]);
            }
        }));
    }
    for download in downloads {
        download.await.expect("it ends");
    }
    println!("all is there after {:?}", began.elapsed());
    assert_eq!(slow_consumers(monitor).await, 0);
}
