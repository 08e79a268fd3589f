//! The simulated server on real sockets: a small loop around [`UcServer`].
//!
//! ```text
//! UDP, TCP ─► wire ───┐                      ┌─► wire ─► UDP, TCP
//! UCSAP    ─► clients ┤                      ├─► clients ─► UCSAP
//! HTTP     ─► web ────┤                      ├─► web ─► HTTP, WebSocket
//! GET      ─► http ───┼─► loop ─► UcServer ──┼─► http: the health document
//! stdin    ─► control ┘                      └─► control ─► stdout, JSON lines
//! ```
//!
//! While it is [`Mood::Dead`] its sockets are closed, so that the kernel refuses; the control
//! lines stay open.

mod clients;
mod control;
mod http;
mod push;
mod web;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use crate::now::Uptime;
use crate::ucserver::mood::Mood;
use crate::ucserver::run::clients::ClientWire;
use crate::ucserver::run::control::{Command, Control, Told};
use crate::ucserver::run::http::Question;
use crate::ucserver::run::web::WebWire;
use crate::ucserver::run::wire::{Arrived, Wire};
use crate::ucserver::server::{Input, Output, UcServer};
use crate::ucserver::settings::Settings;

/// How long happenings are collected before they are told in one line.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Where a simulated server listens.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// SIP over UDP and TCP. Port 0: any, the line `ready` says which.
    pub sip: SocketAddr,
    /// UCSAP over TCP; `None`: not served. Port 0: any.
    pub clients: Option<SocketAddr>,
    /// The WebService over HTTP; `None`: not served. Port 0: any.
    pub web: Option<SocketAddr>,
    /// The health document over HTTP; `None`: not served. Port 0: any.
    pub health: Option<SocketAddr>,
    /// Where the health document is sent every two seconds; `None`: nowhere.
    pub push_to: Option<SocketAddr>,
    /// End when standard input does: the parent process is gone.
    pub until_stdin_ends: bool,
}

/// Why a simulated server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address is taken, or not this machine's.
    #[error(
        "cannot listen on {address} for {what}: {source}; choose a free address of this machine"
    )]
    Bind {
        /// What it is for.
        what: &'static str,
        /// Which.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The system gives no event loop, thread or clock.
    #[error("the system refuses what every program needs: {0}")]
    System(#[from] io::Error),
}

/// Runs a server in `mood` until standard input ends (if [`Listen::until_stdin_ends`]) or the
/// process is stopped. Its clock is `CLOCK_MONOTONIC`; [`Settings::address`] and
/// [`Settings::wall`] are filled in here.
pub fn run(settings: Settings, listen: Listen, mood: Mood, seed: u64) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings, listen, mood, seed))
}

async fn serve(
    mut settings: Settings,
    listen: Listen,
    mood: Mood,
    seed: u64,
) -> Result<(), RunError> {
    let (questions, mut asked) = mpsc::channel(http::QUEUE);
    let wire = Wire::open(listen, questions.clone())?;
    let client_connections = settings.clients.limits.connections;
    let open_clients = |address| ClientWire::open(address, client_connections);
    let clients = listen.clients.map(open_clients).transpose()?;
    let open_web = |address| WebWire::open(address, &settings.name, client_connections, seed);
    let web = listen.web.map(open_web).transpose()?;
    settings.address = wire.sip();
    settings.wall = wall()?;
    // From here on the same ports, even if any would have done.
    let listen = Listen {
        sip: wire.sip(),
        health: wire.health(),
        clients: clients.as_ref().map(ClientWire::address),
        web: web.as_ref().map(WebWire::address),
        ..listen
    };
    let (control, mut commands) = Control::start();
    let server = UcServer::new(settings, uptime()?, seed);
    control.ready(&server, &wire, &listen);
    let (wire, told) = (Some(wire), Told::default());
    let mut looped = Loop {
        server,
        listen,
        questions,
        wire,
        clients,
        web,
        client_connections,
        seed,
        control,
        told,
    };
    if mood != Mood::Healthy {
        looped.set_mood(mood)?;
    }
    let (mut tell_at, mut stdin_open) = (None, true);
    let mut push_at = interval(push::EVERY);
    loop {
        looped.send_outputs()?;
        looped.tell_round();
        if tell_at.is_none() && looped.has_news() {
            tell_at = Some(Instant::now() + TELL_EVERY);
        }
        let due = looped.due()?;
        tokio::select! {
            arrival = Wire::next(looped.wire.as_mut()) => looped.on_arrival(arrival)?,
            () = ClientWire::wait(looped.clients.as_mut()) => looped.on_clients()?,
            () = WebWire::wait(looped.web.as_mut()) => looped.on_web()?,
            Some(question) = asked.recv() => looped.on_question(question)?,
            command = commands.recv(), if stdin_open => match command {
                Some(command) => looped.on_command(command)?,
                None if listen.until_stdin_ends => break,
                None => stdin_open = false,
            },
            _ = push_at.tick(), if listen.push_to.is_some() => looped.push()?,
            () = sleep_until(due) => looped.server.handle(uptime()?, Input::Timeout),
            () = sleep_until(tell_at.unwrap_or(due)), if tell_at.is_some() => {
                tell_at = None;
                looped.tell();
            }
        }
    }
    looped.tell();
    Ok(())
}

/// What the loop holds together.
struct Loop {
    server: UcServer,
    listen: Listen,
    questions: mpsc::Sender<Question>,
    /// `None` while dead.
    wire: Option<Wire>,
    /// `None` while dead, and where clients are not served.
    clients: Option<ClientWire>,
    /// The same.
    web: Option<WebWire>,
    client_connections: usize,
    /// What chance begins with.
    seed: u64,
    control: Control,
    told: Told,
}

impl Loop {
    fn on_arrival(&mut self, arrival: Arrived) -> Result<(), RunError> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let input = match arrival {
            Arrived::Datagrams => return self.on_datagrams(),
            Arrived::Stream(stream, remote) => {
                wire.adopt(stream, remote);
                return Ok(());
            }
            Arrived::Message { flow, message } => Input::Sip { flow, message },
            Arrived::Closed { flow } => {
                wire.forget(flow);
                Input::Closed { flow }
            }
        };
        self.server.handle(uptime()?, input);
        Ok(())
    }

    fn on_datagrams(&mut self) -> Result<(), RunError> {
        for _ in 0..wire::BATCH {
            let Some((flow, message)) = self.wire.as_mut().and_then(Wire::datagram) else { break };
            self.server.handle(uptime()?, Input::Sip { flow, message });
            self.send_outputs()?;
        }
        Ok(())
    }

    fn on_clients(&mut self) -> Result<(), RunError> {
        let inputs = self.clients.as_mut().map(ClientWire::take);
        for input in inputs.into_iter().flatten() {
            self.server.handle(uptime()?, input);
            self.send_outputs()?;
        }
        Ok(())
    }

    fn on_web(&mut self) -> Result<(), RunError> {
        let now = uptime()?;
        let is_silent = self.server.is_silent(now);
        if let Some(web) = &mut self.web {
            web.round(now, is_silent);
        }
        self.send_outputs()
    }

    fn on_question(&mut self, question: Question) -> Result<(), RunError> {
        question.answer(self.server.health(uptime()?));
        Ok(())
    }

    /// Silent servers send nothing.
    fn push(&mut self) -> Result<(), RunError> {
        let document = self.server.health(uptime()?);
        if let (Some(door), Some(document)) = (self.listen.push_to, document) {
            let (name, from) = (self.server.name().into(), self.listen.sip.ip());
            tokio::spawn(push::send(door, from, name, document));
        }
        Ok(())
    }

    fn on_command(&mut self, command: Command) -> Result<(), RunError> {
        let now = uptime()?;
        match command {
            Command::Mood(mood) => self.set_mood(mood)?,
            Command::Ping { aor, contact } => {
                if let Err(why) = self.server.ping(now, &aor, &contact) {
                    self.control.error(&why.to_string());
                }
            }
            Command::PingAll { per_second } => {
                if let Err(why) = self.server.ping_all(now, per_second) {
                    self.control.error(&why.to_string());
                }
            }
            Command::Stats => self.control.stats(&self.server, self.wire.as_ref()),
            Command::Bindings => self.control.bindings(&self.server),
            Command::Clients => {
                let web = self.web.as_ref().map(WebWire::counts).unwrap_or_default();
                self.control.clients(self.server.clients(), self.server.journal(), web);
            }
            Command::Calls => self.control.calls(self.server.clients()),
            Command::Ring { line, number } => {
                let rung = self.server.ring(now, &line, &number);
                self.control.acted("rung", rung.map(|call| json!({"call": call})));
            }
            Command::HangUp { call } => {
                let done = self.server.hang_up(now, &call);
                self.control.acted("hung_up", done.map(|()| json!({"call": call})));
            }
            Command::SetLine { user, line, is_there } => {
                let done = self.server.change_line(now, &user, &line, is_there);
                let what = json!({"user": user, "line": line, "is_there": is_there});
                self.control.acted("line_set", done.map(|()| what));
            }
            Command::ExpireTokens => {
                self.server.expire_tokens(now);
                self.control.acted::<RunError>("tokens_expired", Ok(json!({})));
            }
            Command::Belongs { user, home } => {
                self.server.client_belongs(&user, home);
                self.control.acted::<RunError>("belongs", Ok(json!({"user": user})));
            }
            Command::Unreadable(why) => self.control.error(&why),
        }
        Ok(())
    }

    fn set_mood(&mut self, mood: Mood) -> Result<(), RunError> {
        if mood == Mood::Dead {
            (self.wire, self.clients, self.web) = (None, None, None);
        } else if self.wire.is_none() {
            match self.open() {
                Ok((wire, clients, web)) => {
                    (self.wire, self.clients, self.web) = (Some(wire), clients, web);
                }
                Err(why) => {
                    self.control.error(&why.to_string());
                    return Ok(());
                }
            }
        }
        self.server.set_mood(uptime()?, mood);
        if let (Mood::Amnesia, Some(web)) = (mood, &mut self.web) {
            web.restart();
        }
        // Whoever has a WebSocket stops reading at once, or reads again.
        self.on_web()?;
        self.control.mood(mood, self.server.boot_id());
        Ok(())
    }

    /// Opens all sockets, or none.
    fn open(&self) -> Result<(Wire, Option<ClientWire>, Option<WebWire>), RunError> {
        let wire = Wire::open(self.listen, self.questions.clone())?;
        let open_clients = |address| ClientWire::open(address, self.client_connections);
        let clients = self.listen.clients.map(open_clients).transpose()?;
        // Another life, other names for sessions.
        let seed = self.seed ^ uptime()?.as_nanos();
        let (name, connections) = (self.server.name(), self.client_connections);
        let open_web = |address| WebWire::open(address, name, connections, seed);
        Ok((wire, clients, self.listen.web.map(open_web).transpose()?))
    }

    fn send_outputs(&mut self) -> Result<(), RunError> {
        loop {
            while let Some(output) = self.server.poll() {
                // A dead one has no sockets.
                match output {
                    Output::Send { flow, bytes } => {
                        if let Some(wire) = &mut self.wire {
                            wire.send(flow, bytes);
                        }
                    }
                    Output::Client(what) if WebWire::is_of_web(&what) => {
                        if let Some(web) = &mut self.web {
                            web.act(uptime()?, what);
                        }
                    }
                    Output::Client(what) => {
                        if let Some(clients) = &mut self.clients {
                            clients.act(what);
                        }
                    }
                }
            }
            // What the WebService makes of it, or has to say of its own.
            let Some(input) = self.web.as_mut().and_then(WebWire::input) else { return Ok(()) };
            self.server.handle(uptime()?, input);
        }
    }

    fn due(&self) -> Result<Instant, RunError> {
        let wait = match self.server.next() {
            Some(at) => at.since(uptime()?).min(IDLE),
            None => IDLE,
        };
        Ok(Instant::now() + wait)
    }

    fn has_news(&self) -> bool {
        self.told.is_behind(self.server.journal())
    }

    fn tell(&mut self) {
        self.told.tell(&self.control, self.server.journal());
    }

    /// The end of a round, after everything that belongs to it.
    fn tell_round(&mut self) {
        if let Some(result) = self.server.take_ping_all_result() {
            self.tell();
            self.control.ping_all_done(&result);
        }
    }
}

/// `CLOCK_MONOTONIC`, which all processes of a machine share.
fn uptime() -> Result<Uptime, RunError> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(io::Error::from)?;
    Ok(Uptime::ZERO + Duration::from(time))
}

fn wall() -> Result<SystemTime, RunError> {
    let time = clock_gettime(ClockId::CLOCK_REALTIME).map_err(io::Error::from)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from(time))
}
