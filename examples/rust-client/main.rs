//! A client in Rust. Start a server with `cargo run --bin axum`. Then
//! `cargo run --bin rust-client http://127.0.0.1:3000/ticket/echo hello` prints the answer.

use std::error::Error;

use stillhere_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: rust-client URL MESSAGE...")?;
    let client = Client::connect(&url).await?;
    for message in arguments {
        client.send(message).await?;
        let Some(echo) = client.recv().await else { break };
        println!("{}", String::from_utf8_lossy(&echo));
    }
    println!("{:?}", client.status());
    client.close().await;
    Ok(())
}
