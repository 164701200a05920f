//! Where browsers find the mount.

/// The base of the mount's addresses, without the slash at its end.
///
/// # Panics
/// If `url` is neither a path (`/app/stillhere`), nor relative to the page (`./stillhere`, `../stillhere`), nor on another
/// origin (`https://live.example.com/stillhere`). A name may follow the base, so it has neither query nor fragment.
#[track_caller]
pub(crate) fn base_url(url: &str) -> &str {
    let is_placed = url.is_empty()
        || ["/", "./", "../", "http://", "https://"]
            .iter()
            .any(|start| url.starts_with(start))
        || [".", ".."].contains(&url);
    assert!(
        is_placed && !url.contains(['?', '#']) && !url.contains(char::is_whitespace),
        "browsers cannot find the mount at {url:?}: give a path (/app/stillhere), a place relative to the page \
         (./stillhere, ../stillhere) or one on another origin (https://live.example.com/stillhere)"
    );
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::base_url;

    #[test]
    fn paths_relative_ones_and_other_origins_are_bases() {
        for (url, base) in [
            ("", ""),
            ("/", ""),
            ("/app/stillhere/", "/app/stillhere"),
            (".", "."),
            ("./", "."),
            ("./stillhere", "./stillhere"),
            ("../../stillhere/", "../../stillhere"),
            (
                "https://live.example.com/stillhere",
                "https://live.example.com/stillhere",
            ),
            ("http://localhost:3000", "http://localhost:3000"),
            ("//live.example.com/stillhere", "//live.example.com/stillhere"),
        ] {
            assert_eq!(base_url(url), base);
        }
    }

    #[test]
    fn what_a_browser_would_take_for_something_else_is_refused_with_the_reason() {
        for url in [
            // A name below the page's own path, not a host.
            "live.example.com/stillhere",
            "localhost:3000/stillhere",
            "stillhere",
            "...",
            // No script is loaded from there.
            "wss://live.example.com/stillhere",
            "https:/live.example.com",
            "/stillhere?app=1",
            "/stillhere#1",
            "/still here",
        ] {
            let panic = std::panic::catch_unwind(|| base_url(url)).expect_err(url);
            let reason = panic.downcast::<String>().expect("the reason is text");
            assert!(reason.contains(url) && reason.contains("./stillhere"), "{reason}");
        }
    }
}
