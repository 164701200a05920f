//! The demo on warp.

use stillhere_examples::Demo;
use stillhere_warp::Page;
use tokio::net::TcpListener;
use warp::Filter;
use warp::http::{Method, Response, header};
use warp::path::FullPath;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let demo = Demo::start(listener.local_addr()?).await?;
    let sessions = stillhere_warp::routes(demo.hub());
    let shared = demo.clone();
    let with_demo = warp::any().map(move || shared.clone());
    let page = warp::path::end().and(with_demo.clone()).map(page);
    let other_page = warp::path!("other").and(with_demo.clone()).map(other_page);
    let layer_page = warp::path!("layer").and(with_demo.clone()).map(layer_page);
    let rest = with_demo.and(warp::method()).and(warp::path::full()).map(answer);
    let app = warp::get()
        .and(page.or(other_page).or(layer_page))
        .or(sessions)
        .or(rest);
    let server = warp::serve(app).incoming(listener).graceful(demo.clone().drained());
    demo.run(server.run()).await;
    Ok(())
}

fn page(demo: Demo) -> Page<String> {
    Page(demo.page())
}

fn other_page(demo: Demo) -> Page<String> {
    Page(demo.other_page())
}

fn layer_page(demo: Demo) -> Page<String> {
    Page(demo.layer_page())
}

fn answer(demo: Demo, method: Method, path: FullPath) -> Response<String> {
    let answer = demo.answer(method.as_str(), path.as_str());
    let response = Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, answer.content_type)
        .header(header::CACHE_CONTROL, answer.cache_control);
    let body = answer.body.into_owned();
    response.body(body).expect("the demo's answers are valid HTTP")
}
