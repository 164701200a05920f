//! The address at which browsers find the mount.

/// Returns the base of all addresses under the mount, without a trailing slash.
///
/// # Panics
/// Panics unless `url` is a path (`/app/stillhere`), relative to the page (`./stillhere`,
/// `../stillhere`), or on another origin (`https://live.example.com/stillhere`). It must not have a
/// query or a fragment, because names are appended to it.
#[track_caller]
pub(crate) fn base_url(url: &str) -> &str {
    let is_placed = url.is_empty()
        || ["/", "./", "../", "http://", "https://"]
            .iter()
            .any(|start| url.starts_with(start))
        || [".", ".."].contains(&url);
    assert!(
        is_placed && !url.contains(['?', '#']) && !url.contains(char::is_whitespace),
        "browsers cannot find the mount at {url:?}: give a path (/app/stillhere), an address relative to the \
         page (./stillhere, ../stillhere) or an address on another origin (https://live.example.com/stillhere)"
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
    fn an_ambiguous_url_is_refused_with_the_reason() {
        for url in [
            // A browser takes these for names relative to the page, not for hosts.
            "live.example.com/stillhere",
            "localhost:3000/stillhere",
            "stillhere",
            "...",
            // A browser cannot load a script from these.
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
