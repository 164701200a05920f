//! The demo on actix-web.

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use stillhere_actix::Page;
use stillhere_examples::Demo;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let demo = Demo::start(listener.local_addr()?).await?;
    let drained = demo.clone().drained();
    let app = move || {
        App::new()
            .app_data(Data::new(demo.clone()))
            .route("/", web::get().to(page))
            .route("/other", web::get().to(other_page))
            .route("/layer", web::get().to(layer_page))
            .configure(stillhere_actix::routes(demo.hub()))
            .default_service(web::to(answer))
    };
    let server = HttpServer::new(app)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .listen(listener)?;
    // Time for requests that are pending after the hub has been drained. The default of actix is 30
    // s.
    server.shutdown_signal(drained).shutdown_timeout(1).run().await
}

async fn page(demo: Data<Demo>) -> Page<String> {
    Page(demo.page())
}

async fn other_page(demo: Data<Demo>) -> Page<String> {
    Page(demo.other_page())
}

async fn layer_page(demo: Data<Demo>) -> Page<String> {
    Page(demo.layer_page())
}

async fn answer(demo: Data<Demo>, request: HttpRequest) -> HttpResponse {
    let answer = demo.answer(request.method().as_str(), request.path());
    let status = StatusCode::from_u16(answer.status).expect("the demo's statuses are valid HTTP");
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, answer.content_type));
    response.insert_header((header::CACHE_CONTROL, answer.cache_control));
    response.body(answer.body)
}
