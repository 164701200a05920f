//! Two servers behind nginx are replaced one after the other, under load: their pages come back
//! spread over time.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use futures_util::future::join_all;
use stillhere::{Hub, Session, stop_signal};
use stillhere_client::{Client, Status};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The variables of the program that is a server.
const ADDRESS: &str = "STILLHERE_ROLLING_ADDRESS";
const MOUNT: &str = "STILLHERE_ROLLING_MOUNT";

/// The deadline of each shutdown, in seconds. Pages come back over this time.
const SPREAD: u32 = 4;

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message.into_bytes()).await.is_err() {
            return;
        }
    }
}

/// Serves until it is told to stop.
#[test]
fn serve_until_stopped() {
    let Ok(address) = env::var(ADDRESS) else { return };
    let mount = env::var(MOUNT).expect("the test sets both variables");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let hub = Hub::builder().mount(&mount).build();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let ticket = {
            let (hub, is_stopping) = (hub.clone(), Arc::clone(&is_stopping));
            // nginx asks the other server then.
            async move || match is_stopping.load(Ordering::SeqCst) {
                true => Err(StatusCode::SERVICE_UNAVAILABLE),
                false => Ok(hub.open(echo).ticket_json()),
            }
        };
        let app = Router::new()
            .route("/ticket", get(ticket))
            .merge(stillhere_axum::routes(&hub));
        let mut stop = pin!(stop_signal());
        // Polled once, so that the signal is handled from now on.
        tokio::select! {
            biased;
            () = &mut stop => return,
            () = std::future::ready(()) => {}
        }
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .expect("the address is free");
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        tokio::select! {
            () = &mut stop => {
                is_stopping.store(true, Ordering::SeqCst);
                let report = hub.shutdown(Duration::from_secs(SPREAD.into())).await;
                assert_eq!(report.aborted, 0, "{report:?}");
            }
            _ = serving => panic!("it serves until it is told to stop"),
        }
    });
    std::process::exit(0);
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("it has an address")
}

async fn listens(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    address: SocketAddr,
    mount: &'static str,
    process: Process,
}

impl Server {
    async fn start(address: SocketAddr, mount: &'static str) -> Self {
        let process = Command::new(env::current_exe().expect("this program has a path"))
            .args(["--exact", "serve_until_stopped", "--nocapture"])
            .env(ADDRESS, address.to_string())
            .env(MOUNT, mount)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let process = Process(process);
        listens(address).await;
        Self {
            address,
            mount,
            process,
        }
    }

    /// Replaces the process by one of the next version.
    async fn deploy(mut self) -> Self {
        let id = self.process.0.id().to_string();
        let told = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status();
        assert!(told.expect("it runs").success());
        let status = tokio::task::block_in_place(|| self.process.0.wait()).expect("it ends");
        assert!(status.success(), "{status}");
        Self::start(self.address, self.mount).await
    }
}

/// A running nginx, whose folder is removed with it.
struct Nginx {
    address: SocketAddr,
    folder: PathBuf,
    _process: Process,
}

impl Nginx {
    async fn start([first, second]: [SocketAddr; 2]) -> Self {
        let address = free_address();
        let folder = env::temp_dir().join(format!("stillhere-rolling-{}", address.port()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let configuration = format!(
            "worker_processes 1;
            pid nginx.pid;
            events {{ worker_connections 8192; }}
            http {{
                access_log off;
                upstream pages {{ server {first}; server {second}; }}
                server {{
                    listen {address};
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection \"upgrade\";
                    proxy_set_header Host $http_host;
                    location / {{ proxy_pass http://pages; proxy_next_upstream error timeout http_503; }}
                    location /first/ {{ proxy_pass http://{first}; }}
                    location /second/ {{ proxy_pass http://{second}; }}
                }}
            }}"
        );
        std::fs::write(folder.join("nginx.conf"), configuration).expect("a file can be written");
        let process = Command::new("/usr/sbin/nginx")
            .args([
                "-e",
                "stderr",
                "-c",
                "nginx.conf",
                "-g",
                "daemon off; master_process off;",
                "-p",
            ])
            .arg(&folder)
            .spawn()
            .expect("nginx is installed");
        let process = Process(process);
        listens(address).await;
        Self {
            address,
            folder,
            _process: process,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a page reports.
enum Report {
    /// Its session has ended.
    Ended,
    /// It has a new session.
    CameBack(Instant),
}

/// Acts as a page: has echoes, and gets a new session when its own has ended.
async fn page(source: String, echoes: Arc<AtomicU64>, reports: mpsc::UnboundedSender<Report>) {
    let mut is_first = true;
    loop {
        let Ok(client) = Client::connect(&source).await else {
            // As a page does that gets no ticket.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        if !std::mem::replace(&mut is_first, false) {
            reports
                .send(Report::CameBack(Instant::now()))
                .expect("the test reads the reports");
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            if client.send("load").await.is_err() || client.recv().await.is_none() {
                break;
            }
            echoes.fetch_add(1, Ordering::Relaxed);
        }
        reports.send(Report::Ended).expect("the test reads the reports");
        match client.status() {
            Status::Ended { retry_after, .. } => tokio::time::sleep(retry_after).await,
            status => panic!("{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_come_back_spread_over_time_when_one_server_after_the_other_is_replaced() {
    let (pages, deploys) = match env::var_os("STILLHERE_LONG") {
        Some(_) => (500, 4),
        None => (200, 1),
    };
    let addresses = [free_address(), free_address()];
    let mut servers = vec![
        Server::start(addresses[0], "/first/stillhere").await,
        Server::start(addresses[1], "/second/stillhere").await,
    ];
    let nginx = Nginx::start(addresses).await;
    let (reports, mut reported) = mpsc::unbounded_channel();
    let echoes = Arc::new(AtomicU64::new(0));
    let running: Vec<_> = (0..pages)
        .map(|_| {
            let source = format!("http://{}/ticket", nginx.address);
            tokio::spawn(page(source, Arc::clone(&echoes), reports.clone()))
        })
        .collect();
    let has_load = async |echoed: u64| {
        let until = echoes.load(Ordering::Relaxed) + echoed;
        while echoes.load(Ordering::Relaxed) < until {
            assert!(
                !running.iter().any(tokio::task::JoinHandle::is_finished),
                "a page panicked"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    has_load(3 * pages).await;
    for deploy in 0..deploys {
        let server = servers.remove(0);
        let began = Instant::now();
        servers.push(server.deploy().await);
        let mut seconds = [0_u32; 1 + SPREAD as usize];
        // The first comes back after a second, when all others know already that they have ended.
        let mut away = 0;
        loop {
            match reported.recv().await.expect("pages run") {
                Report::Ended => away += 1,
                Report::CameBack(at) => {
                    away -= 1;
                    let second = (at - began).as_secs().saturating_sub(1);
                    let last = seconds.len() - 1;
                    seconds[usize::try_from(second).unwrap_or(last).min(last)] += 1;
                }
            }
            if away == 0 {
                break;
            }
        }
        println!("deploy {deploy}: {seconds:?} pages came back in each second");
        let all: u32 = seconds.iter().sum();
        let mean = all / SPREAD;
        assert!(
            u64::from(all) >= pages / 4,
            "a server had about half of the pages: {seconds:?}"
        );
        assert!(
            seconds.iter().all(|second| *second <= 2 * mean),
            "{seconds:?}, mean {mean}"
        );
        has_load(pages).await;
    }
    running.iter().for_each(tokio::task::JoinHandle::abort);
    drop(join_all(running).await);
}
