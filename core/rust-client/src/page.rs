//! Fetches a page for the ticket in it.

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use crate::connection::ConnectionError;
use crate::endpoint::{Body, Requests, status_error};

/// Why a page could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The request failed, or its status is not 200. The client does not follow redirects, because
    /// they may lead to a login.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The page did not arrive within 15 seconds.
    #[error("the page did not arrive in time")]
    Silent,
    /// The page is larger than 8 MiB.
    #[error("the page is too large")]
    TooLarge,
    /// The page is not UTF-8.
    #[error("the page is not UTF-8")]
    NotText,
}

pub(crate) async fn fetch(url: &Url, headers: &HeaderMap) -> Result<String, PageError> {
    let fetched = tokio::time::timeout(PATIENCE, read(url, headers));
    fetched.await.map_err(|_| PageError::Silent)?
}

async fn read(url: &Url, headers: &HeaderMap) -> Result<String, PageError> {
    let mut headers = headers.clone();
    let accept = HeaderValue::from_static("text/html, application/json");
    headers.entry(ACCEPT).or_insert(accept);
    let mut requests = Requests::open(url).await?;
    let sent = requests.send(Method::GET, url, headers, Bytes::new()).await;
    let response = sent.map_err(ConnectionError::transport)?;
    if response.status() != StatusCode::OK {
        return Err(status_error(&response).into());
    }
    let mut body = Body::new(response);
    let mut page = Vec::new();
    while let Some(piece) = body.next().await? {
        page.extend_from_slice(&piece);
        if page.len() > LARGEST {
            return Err(PageError::TooLarge);
        }
    }
    String::from_utf8(page).map_err(|_| PageError::NotText)
}

const PATIENCE: Duration = Duration::from_secs(15);

const LARGEST: usize = 8 * 1024 * 1024;
