//! One server cannot reach NATS, while the others do.

use std::time::Duration;

use async_nats::jetstream;
use stillhere::SessionHandle;
use stillhere::code::Code;
use stillhere::durable::DurableKind;
use stillhere_client::{Client, Route, Status};

use crate::balancer::Balancer;
use crate::cable::{Cable, State};
use crate::node::{Count, Node, until};
use crate::support::NatsServer;
use crate::{connect, echo, node, recv, until_status};

/// Three servers, of which the first has a cable to NATS, and pages of its sessions.
struct Cluster {
    nats: NatsServer,
    cable: Cable,
    nodes: [Node; 3],
    _kinds: [DurableKind<Count>; 3],
    /// Leads the page of the durable session to the first server, until it is taken over.
    of_durable: Balancer,
    /// Leads the page of the other session to the first server.
    of_plain: Balancer,
    /// Leads to the second server.
    other: Balancer,
    durable: Client,
    plain: Client,
    /// Has a hop from the second server to the first.
    plain_through: Client,
    /// Sessions that no page has connected to: of the first server, and of the second.
    unconnected: [SessionHandle; 2],
}

impl Cluster {
    async fn start() -> Self {
        let nats = NatsServer::start();
        let cable = Cable::start(&nats.url()).await;
        let nodes = [
            Node::start_durable_at(cable.url()).await,
            Node::start_durable(&nats).await,
            Node::start_durable(&nats).await,
        ];
        let all_know_all = || nodes.iter().all(|node| node.cluster.servers().count() == 3);
        until("all servers know all", all_know_all).await;
        let kinds = nodes.each_ref().map(Node::counters);
        let of_durable = Balancer::start(&[nodes[0].address], 0).await;
        let of_plain = Balancer::start(&[nodes[0].address], 0).await;
        let other = Balancer::start(&[nodes[1].address], 0).await;
        let durable = connect(&kinds[0].open(Count { count: 0 }), &of_durable, Route::WebSocket);
        let plain = connect(&nodes[0].hub.open(node::echo), &of_plain, Route::WebSocket);
        let unconnected = [nodes[0].hub.open(node::echo), nodes[1].hub.open(node::echo)];
        let plain_through = connect(&nodes[0].hub.open(node::echo), &other, Route::WebSocket);
        assert_eq!(&*echo(&durable, "x").await, b"1");
        assert_eq!(&*echo(&plain, "x").await, b"x");
        assert_eq!(&*echo(&plain_through, "x").await, b"x");
        Self {
            nats,
            cable,
            nodes,
            _kinds: kinds,
            of_durable,
            of_plain,
            other,
            durable,
            plain,
            plain_through,
            unconnected,
        }
    }

    fn is_ready(&self) -> [bool; 3] {
        self.nodes.each_ref().map(|node| node.cluster.is_ready())
    }

    fn sessions(&self) -> [usize; 3] {
        self.nodes.each_ref().map(|node| node.hub.stats().sessions)
    }

    /// Returns how many records of durable sessions were written.
    async fn written(&self) -> u64 {
        let client = async_nats::connect(self.nats.url()).await.expect("NATS runs");
        let stream = jetstream::new(client).get_stream("stillhere_sessions").await;
        let mut stream = stream.expect("there is a stream");
        stream.info().await.expect("NATS answers").state.last_sequence
    }

    /// Cuts the first server off until it knows that. Its own pages go on.
    async fn part(&self, state: State) {
        self.cable.set(state);
        until("it is not ready", || self.is_ready() == [false, true, true]).await;
        assert_eq!(&*echo(&self.plain, "here").await, b"here");
        let client = connect(&self.unconnected[1], &self.of_plain, Route::WebSocket);
        until_status(&client, is_told_to_wait).await;
    }

    /// Has the durable session taken over by another server, with a message that its own server
    /// could not write.
    async fn take_over(&self) {
        self.durable.send("x").await.expect("its session lives");
        // Until its own server tries to write it.
        assert_eq!(&*echo(&self.plain, "there").await, b"there");
        self.of_durable.lead_to(&[self.nodes[1].address]);
        self.of_durable.cut();
        self.durable.wake();
        assert_eq!(&*recv(&self.durable).await, b"2");
        assert_eq!(&*echo(&self.durable, "x").await, b"3");
        assert_eq!(&*echo(&self.plain, "here").await, b"here");
    }

    /// Plugs the cable again. The first server gives up what was taken over and writes nothing.
    async fn reunite(&self) {
        let sessions = [3, 2, 0];
        let written = self.written().await;
        self.cable.set(State::Plugged);
        until("it gives up its session", || self.sessions() == sessions).await;
        until("all are ready", || self.is_ready() == [true; 3]).await;
        assert_eq!(self.written().await, written, "nobody has written");
        // Its page may be at any server.
        for (client, balancer) in [(&self.durable, &self.of_durable), (&self.plain, &self.of_plain)] {
            balancer.lead_to(&[self.nodes[2].address]);
            balancer.cut();
            client.wake();
        }
        assert_eq!(&*echo(&self.durable, "x").await, b"4");
        assert_eq!(&*echo(&self.plain, "there").await, b"there");
        assert_eq!(self.sessions(), sessions);
    }
}

fn is_told_to_wait(status: &Status) -> bool {
    let (Status::Connecting(attempt) | Status::Reconnecting(attempt)) = status else {
        return false;
    };
    attempt.code == u64::from(Code::Busy as u16)
}

fn is_unknown(status: &Status) -> bool {
    matches!(status, Status::Refused { code, .. } if *code == Code::Unknown as u64)
}

#[tokio::test]
async fn a_server_that_loses_nats_for_a_moment_loses_no_session() {
    let cluster = Cluster::start().await;
    for state in [State::Cut, State::Silent] {
        let session = cluster.nodes[0].hub.open(node::echo);
        cluster.cable.set(state);
        let begun = tokio::time::Instant::now();
        cluster.durable.send("x").await.expect("its session lives");
        cluster.plain_through.send("during").await.expect("its session lives");
        let newcomer = connect(&session, &cluster.other, Route::WebSocket);
        newcomer.send("first").await.expect("it is connecting");
        assert_eq!(&*echo(&cluster.plain, "here").await, b"here");
        tokio::time::sleep_until(begun + Duration::from_millis(100)).await;
        cluster.cable.set(State::Plugged);
        assert_eq!(&*recv(&newcomer).await, b"first", "{state:?}");
        assert_eq!(&*recv(&cluster.plain_through).await, b"during");
        recv(&cluster.durable).await;
        assert_eq!(cluster.is_ready(), [true; 3]);
        assert_eq!(cluster.sessions()[1..], [1, 0], "nothing was taken over");
    }
    assert_eq!(&*echo(&cluster.durable, "x").await, b"4");
}

#[tokio::test]
async fn of_a_server_that_has_lost_nats_durable_sessions_go_on_elsewhere_and_others_are_unknown() {
    let cluster = Cluster::start().await;
    cluster.cable.set(State::Cut);
    let newcomer = connect(&cluster.unconnected[0], &cluster.other, Route::WebSocket);
    let took = until_status(&newcomer, is_unknown).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    cluster.part(State::Cut).await;
    until_status(&cluster.plain_through, is_unknown).await;
    cluster.take_over().await;
    cluster.reunite().await;
}

/// NATS takes the server for connected.
#[tokio::test]
async fn of_a_server_whose_packets_vanish_durable_sessions_go_on_elsewhere_and_others_wait() {
    let cluster = Cluster::start().await;
    cluster.part(State::Silent).await;
    let newcomer = connect(&cluster.unconnected[0], &cluster.other, Route::WebSocket);
    for client in [&newcomer, &cluster.plain_through] {
        until_status(client, is_told_to_wait).await;
    }
    cluster.plain_through.send("during").await.expect("its session lives");
    cluster.take_over().await;
    cluster.reunite().await;
    newcomer.wake();
    assert_eq!(&*echo(&newcomer, "x").await, b"x");
    assert_eq!(&*recv(&cluster.plain_through).await, b"during");
}
