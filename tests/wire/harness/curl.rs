//! curl: requests by a client that somebody else has written.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use serde_json::Value;

use crate::harness::web::Reply;
use crate::harness::{PATIENCE, Secret, run};

/// What it is to tell of an answer on its standard error, the body being on its standard output.
const TELL: &str =
    r#"%{stderr}{"status":%{http_code},"version":"%{http_version}","headers":%{header_json}}"#;

/// Asks one WebService.
pub(crate) struct Curl {
    base: String,
    options: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) version: String,
    reply: Reply,
}

impl Curl {
    pub(crate) fn of(web: SocketAddr) -> Self {
        Self { base: format!("http://{web}"), options: Vec::new() }
    }

    /// By TLS, by a name of the certificate that nobody has to look up.
    pub(crate) fn trusting(secret: &Secret, name: &str, web: SocketAddr) -> Self {
        let resolve = format!("{name}:{}:{}", web.port(), web.ip());
        let trusted = secret.chain().display().to_string();
        let options = ["--resolve", &resolve, "--cacert", &trusted].map(str::to_owned).into();
        Self { base: format!("https://{name}:{}", web.port()), options }
    }

    /// Where it asks.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// One request, and its answer.
    pub(crate) fn ask(&self, path: &str, options: &[&str]) -> Fetched {
        self.try_ask(path, options).unwrap_or_else(|(code, said)| panic!("curl: {code:?} {said}"))
    }

    /// The same; its exit code and what it says if there is no answer.
    pub(crate) fn try_ask(
        &self,
        path: &str,
        options: &[&str],
    ) -> Result<Fetched, (Option<i32>, String)> {
        let patience = PATIENCE.as_secs().to_string();
        let mut command = Command::new("curl");
        // What whoever runs this has configured for themselves counts for nothing.
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error", "--globoff"]);
        command.args(["--max-time", &patience, "--write-out", TELL]);
        command.args(&self.options).args(options).arg(format!("{}{path}", self.base));
        let output = run(&mut command);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err((output.status.code(), told));
        }
        let told: Value =
            serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        let mut headers = HeaderMap::new();
        for (name, lines) in told["headers"].as_object().unwrap() {
            for line in lines.as_array().unwrap() {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, line.as_str().unwrap().parse().unwrap());
            }
        }
        let status = told["status"].as_u64().unwrap().try_into().unwrap();
        let reply = Reply { status, headers, body: output.stdout.into() };
        Ok(Fetched { version: told["version"].as_str().unwrap().to_owned(), reply })
    }
}

impl Deref for Fetched {
    type Target = Reply;

    fn deref(&self) -> &Reply {
        &self.reply
    }
}
