//! The guide in `docs/`, whose code is compiled as doc tests.

#[doc = include_str!("../../docs/ending.md")]
#[doc = include_str!("../../docs/first-session.md")]
#[doc = include_str!("../../docs/logins.md")]
#[doc = include_str!("../../docs/reload.md")]
#[doc = include_str!("../../docs/restarts.md")]
#[doc = include_str!("../../docs/values-and-calls.md")]
struct Guide;
