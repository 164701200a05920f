//! actix-web with one worker: its WebSockets, and sessions.

use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use stillhere::Hub;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;

use super::{Member, Role, Shared, requested, sessions};

pub(super) async fn serve_bare(role: Role, listener: TcpListener) {
    let shared = Shared::new(role);
    let configure = move |app: &mut ServiceConfig| {
        app.app_data(web::Data::new(shared.clone()))
            .route("/ws", web::get().to(upgrade));
    };
    serve(configure, listener).await;
}

pub(super) async fn serve_sessions(role: Role, listener: TcpListener) {
    let hub = sessions::hub();
    let configure = move |app: &mut ServiceConfig| {
        let tickets = move |hub: web::Data<Hub>, count: web::Path<usize>| {
            std::future::ready(sessions::tickets(&hub, role, *count))
        };
        // Last, because actix-web tries the routes in their order.
        app.app_data(web::Data::new(hub.clone()))
            .configure(stillhere_actix::routes(&hub))
            .route("/tickets/{count}", web::get().to(tickets));
    };
    serve(configure, listener).await;
}

async fn serve(configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static, listener: TcpListener) {
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .client_disconnect_timeout(Duration::ZERO)
        .listen(listener.into_std().expect("a listener"));
    server.expect("a listener").run().await.expect("serving goes on");
}

async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> actix_web::Result<HttpResponse> {
    let (response, session, messages) = actix_ws::handle(&request, payload)?;
    actix_web::rt::spawn(page(session, messages, shared.member()));
    Ok(response)
}

async fn page(mut session: actix_ws::Session, mut messages: actix_ws::MessageStream, member: Member) -> Option<()> {
    if matches!(member.role, Role::FanOut) {
        actix_web::rt::spawn(forward(session.clone(), member.published.resubscribe()));
    }
    loop {
        let actix_ws::Message::Binary(bytes) = messages.recv().await?.ok()? else {
            continue;
        };
        match member.role {
            Role::Echo | Role::Transfer => session.binary(bytes).await.ok()?,
            Role::Stream => {
                let (count, message) = requested(&bytes);
                let message = Bytes::from(message);
                for _ in 0..count {
                    session.binary(message.clone()).await.ok()?;
                }
            }
            Role::FanOut => member.publish(bytes),
        }
    }
}

/// Sends the page what is sent to all.
async fn forward(mut session: actix_ws::Session, mut published: Receiver<Bytes>) -> Option<()> {
    loop {
        session.binary(published.recv().await.ok()?).await.ok()?;
    }
}
