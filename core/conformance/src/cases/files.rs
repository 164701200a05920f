//! The browser client's files, as every adapter serves them.

use stillhere::{Hub, client};

use crate::http::get;
use crate::server::Server;

/// Each file's plain name and its name with a hash.
fn files() -> [(&'static str, String); 5] {
    [
        ("client.js", client::script_name()),
        ("client.mjs", client::module_name()),
        ("badge.mjs", client::badge_name()),
        ("app.js", client::app_script_name()),
        ("app.mjs", client::app_module_name()),
    ]
}

/// Under its hashed name the client is immutable. Under its plain name it is revalidated by ETag.
pub async fn the_client_is_served_with_cache_headers(server: &Server) {
    for (name, hashed) in files() {
        let plain = get(server.address, &format!("/stillhere/{name}"), &[]).await;
        let hashed = get(server.address, &format!("/stillhere/{hashed}"), &[]).await;
        for response in [&plain, &hashed] {
            assert_eq!(response.status, 200);
            assert!(response.header("content-type").starts_with("text/javascript"));
            assert_eq!(response.header("content-encoding"), "");
            assert_eq!(response.header("x-content-type-options"), "nosniff");
        }
        assert!(!plain.body.is_empty() && plain.body == hashed.body);
        assert_eq!(plain.header("cache-control"), "no-cache");
        assert!(hashed.header("cache-control").contains("immutable"));

        let etag = plain.header("etag");
        let again = get(
            server.address,
            &format!("/stillhere/{name}"),
            &[("if-none-match", etag)],
        )
        .await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, etag));
        let changed = get(
            server.address,
            &format!("/stillhere/{name}"),
            &[("if-none-match", "\"another\"")],
        )
        .await;
        assert_eq!((changed.status, &changed.body), (200, &plain.body));
    }
}

/// A request that accepts gzip gets a precompressed file, which has its own ETag.
pub async fn the_client_is_served_compressed_to_browsers_that_accept_it(server: &Server) {
    for (name, _) in files() {
        let path = format!("/stillhere/{name}");
        let plain = get(server.address, &path, &[]).await;
        let zipped = get(server.address, &path, &[("accept-encoding", "br, gzip;q=0.5")]).await;
        assert_eq!((zipped.status, zipped.header("content-encoding")), (200, "gzip"));
        assert_eq!(zipped.header("vary").to_ascii_lowercase(), "accept-encoding");
        assert_ne!(zipped.header("etag"), plain.header("etag"));
        let mut inflated = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&zipped.body[..]);
        std::io::Read::read_to_end(&mut decoder, &mut inflated).expect("it is gzip");
        assert!(inflated == plain.body, "{name}: the same file");
    }
    let refused = get(
        server.address,
        "/stillhere/client.js",
        &[("accept-encoding", "gzip;q=0")],
    )
    .await;
    assert_eq!(refused.header("content-encoding"), "");
}

/// `HubBuilder::public_url` may be on another origin. Pages of all origins may load the files in
/// any way, and caches need not distinguish origins.
pub async fn the_client_may_be_loaded_by_pages_of_other_origins(server: &Server) {
    for name in files().into_iter().flat_map(|(name, hashed)| [name.to_owned(), hashed]) {
        let path = format!("/stillhere/{name}");
        let etag = get(server.address, &path, &[]).await.header("etag").to_owned();
        let foreign = ("origin", "https://elsewhere.example");
        for headers in [&[][..], &[foreign], &[foreign, ("if-none-match", &etag)]] {
            let response = get(server.address, &path, headers).await;
            assert!([200, 304].contains(&response.status), "{name}: {}", response.status);
            assert_eq!(response.header("access-control-allow-origin"), "*");
            assert_eq!(response.header("access-control-allow-credentials"), "");
            assert_eq!(response.header("cross-origin-resource-policy"), "cross-origin");
            assert_eq!(response.header("vary").to_ascii_lowercase(), "accept-encoding");
        }
    }
}

/// Any name that is not one of the client's files gets 404.
pub async fn other_names_are_not_found(server: &Server) {
    for name in [
        "",
        "client.0000000000000000.js",
        "client.css",
        "..%2f..%2fCargo.toml",
        "AAECAwQFBgcICQoLDA0ODw",
    ] {
        assert_eq!(
            get(server.address, &format!("/stillhere/{name}"), &[]).await.status,
            404,
            "{name}"
        );
    }
}

/// The script tag names a script that the server has, also when the hub is mounted elsewhere.
pub async fn the_script_tag_names_a_script_that_is_there(server: &Server) {
    let server = server.with_hub(Hub::builder().mount("live/sessions/")).await;
    let session = server.hub.open(crate::application::echo);
    for (tag, stem) in [(session.script_tag(), "client"), (session.app_script_tag(), "app")] {
        let (_, rest) = tag.split_once("src=\"").expect("the tag has a source");
        let (source, _) = rest.split_once('"').expect("the source ends");
        assert!(source.starts_with(&format!("/live/sessions/{stem}.")), "{source}");
        let script = get(server.address, source, &[]).await;
        assert_eq!(script.status, 200);
        assert!(script.header("cache-control").contains("immutable"));
    }
    assert_eq!(get(server.address, "/stillhere/client.js", &[]).await.status, 404);
}
