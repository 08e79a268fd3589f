//! The loop: begins transactions, takes answers, sends again what is late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem::Finder;
use nix::time::ClockId;

use crate::load::flight::{Asked, Due, Flight};
use crate::load::histogram::Histogram;
use crate::load::plan::{LoadError, Pace, Plan, WINDOW_MAX};
use crate::load::report::{Report, ServerUsage};
use crate::load::script::{self, Script, Ticket};
use crate::load::tcp::Connections;
use crate::load::udp::Datagrams;
use crate::load::usage::{cpu_of, memory_of, tree_of};
use crate::load::wire::Wire;
use crate::net::Clock;
use crate::now::Uptime;
use crate::sip::Transport;

/// Transactions begun before answers have their turn.
const BURST: usize = 256;
/// The longest nap: so that the end of a phase is seen in time.
const NAP: Duration = Duration::from_millis(5);
/// How long a server may take to accept what has connected, before its memory is looked at.
const CONNECTED: Duration = Duration::from_millis(500);
/// A fill that does not advance for so long has failed.
const FILL_PATIENCE: Duration = Duration::from_secs(40);
/// A user that was refused while filling is tried again after this.
const FILL_RETRY: Duration = Duration::from_millis(200);
/// No Retry-After is honoured for longer.
const COME_BACK_MAX: u64 = 3600;

/// Carries out a plan and says what came of it. It takes the whole of one thread.
pub fn run(plan: &Plan) -> Result<Report, LoadError> {
    plan.check()?;
    let server = Server::before(&plan.server_pids);
    // Differs from run to run: std's hash keys are random.
    let run = RandomState::new().hash_one(plan.target);
    match plan.transport {
        Transport::Udp => {
            let (wire, local) = Datagrams::open(plan.target)?;
            Drive::new(plan, wire, Script::new(plan, local, run), server).play()
        }
        Transport::Tcp => {
            let wire = Connections::open(plan.target, plan.users)?;
            // The server knows where to answer: by the connection.
            let local = SocketAddr::new(plan.target.ip(), 5060);
            Drive::new(plan, wire, Script::new(plan, local, run), server).play()
        }
    }
}

/// The server under test, as the system sees it.
#[derive(Debug)]
struct Server {
    pids: Vec<u32>,
    usage: ServerUsage,
}

impl Server {
    /// Before anything is asked of it.
    fn before(roots: &[u32]) -> Self {
        let pids = tree_of(roots);
        let usage = ServerUsage { before: memory_of(&pids), ..ServerUsage::default() };
        Self { pids, usage }
    }
}

/// One phone.
#[derive(Clone, Copy, Debug, Default)]
struct Phone {
    cseq: u32,
    /// A transaction of its own is under way, or it waits to come back.
    busy: bool,
    registered: bool,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Everybody registers once.
    Fill,
    /// As planned.
    Measure,
    /// Nothing begins any more; answers are waited for.
    Drain,
}

struct Drive<'p, W> {
    plan: &'p Plan,
    wire: W,
    script: Script,
    branch: Finder<'static>,
    phones: Vec<Phone>,
    flight: Flight,
    phase: Phase,
    /// Whose turn it is.
    turn: u32,
    /// Users the fill still has to begin with.
    to_fill: u32,
    /// When the next one begins in the open loop, in nanoseconds.
    schedule: f64,
    /// Beginnings of the plan; phones that come back are not counted.
    begun: u64,
    comers: BinaryHeap<Reverse<(Uptime, u32)>>,
    server: Server,
    report: Report,
    latency: Histogram,
}

impl<'p, W: Wire> Drive<'p, W> {
    fn new(plan: &'p Plan, wire: W, script: Script, server: Server) -> Self {
        let room = match plan.pace {
            Pace::Window(window) => window.max(plan.fill_window),
            Pace::PerSecond(_) => WINDOW_MAX,
        };
        let reliable = plan.transport.is_reliable();
        Self {
            plan,
            wire,
            branch: script::finder(),
            script,
            phones: vec![Phone::default(); plan.users as usize],
            flight: Flight::new(room.min(WINDOW_MAX), plan.t1, plan.give_up, reliable),
            phase: Phase::Fill,
            turn: 0,
            to_fill: plan.users,
            schedule: 0.0,
            begun: 0,
            comers: BinaryHeap::new(),
            server,
            report: Report::default(),
            latency: Histogram::default(),
        }
    }

    fn play(mut self) -> Result<Report, LoadError> {
        self.rest(self.plan.settle.min(CONNECTED));
        self.server.usage.connected = memory_of(&self.server.pids);
        let (fill_seconds, fill_retransmissions) =
            if self.plan.fill { self.fill()? } else { (0.0, 0) };
        self.rest(self.plan.settle);
        self.server.usage.filled = memory_of(&self.server.pids);
        self.phase = Phase::Measure;
        self.schedule = Clock.uptime().as_nanos() as f64;
        self.go_on_for(self.plan.warm_up);
        self.report = Report::default();
        self.latency = Histogram::default();
        let (start, cpu, own) = (Clock.uptime(), cpu_of(&self.server.pids), own_cpu());
        self.go_on_for(self.plan.duration);
        let spent = cpu_of(&self.server.pids).saturating_sub(cpu).as_secs_f64();
        let own = own_cpu().saturating_sub(own).as_secs_f64();
        let seconds = Clock.uptime().since(start).as_secs_f64();
        let answered = self.report.ok + self.report.refused;
        self.phase = Phase::Drain;
        let per_second = |count: u64| count as f64 / seconds;
        self.report.per_second = per_second(answered);
        self.report.ok_per_second = per_second(self.report.ok);
        if matches!(self.plan.pace, Pace::PerSecond(_)) {
            let last = self.plan.give_up.min(self.plan.t1 * 64) + NAP;
            self.go_on_until(Clock.uptime() + last, |drive| drive.flight.len() == 0);
        }
        let server = (!self.server.pids.is_empty()).then(|| ServerUsage {
            cpu_us: spent * 1e6 / answered.max(1) as f64,
            cpu_percent: spent * 100.0 / seconds,
            after: memory_of(&self.server.pids),
            ..self.server.usage
        });
        let registered = self.phones.iter().filter(|phone| phone.registered).count();
        let faults = self.wire.faults();
        let Self { report, latency, script, .. } = self;
        let ended = report.ok + report.refused + report.timeouts;
        let failed = report.refused + report.timeouts + report.ok_late;
        Ok(Report {
            seconds,
            fail_percent: failed as f64 * 100.0 / ended.max(1) as f64,
            latency_us: latency.percentiles(),
            unsent: faults.unsent,
            closed: faults.closed,
            server,
            generator_cpu_percent: own * 100.0 / seconds,
            fill_seconds,
            fill_retransmissions,
            registered: u32::try_from(registered).unwrap_or(u32::MAX),
            message_bytes: script.len(),
            ..report
        })
    }

    /// Nothing begins for a while, so that what is not kept for long is gone.
    fn rest(&mut self, time: Duration) {
        let phase = std::mem::replace(&mut self.phase, Phase::Drain);
        self.go_on_until(Clock.uptime() + time, |_| false);
        self.phase = phase;
    }

    /// Registers everybody once; how long that took, and what was sent again.
    fn fill(&mut self) -> Result<(f64, u64), LoadError> {
        let start = Clock.uptime();
        let mut missing = self.plan.users;
        loop {
            let deadline = Clock.uptime() + FILL_PATIENCE;
            self.go_on_until(deadline, |drive| drive.fill_missing() < missing);
            let left = self.fill_missing();
            if left == 0 {
                let seconds = Clock.uptime().since(start).as_secs_f64();
                return Ok((seconds, self.report.retransmissions));
            }
            if left == missing {
                let answers = format!("{:?}", self.report.answers);
                return Err(LoadError::NotFilled { missing, users: self.plan.users, answers });
            }
            missing = left;
        }
    }

    fn fill_missing(&self) -> u32 {
        // Each user is under way, waits to come back, or is registered.
        self.to_fill + self.flight.len() as u32 + self.comers.len() as u32
    }

    fn go_on_for(&mut self, duration: Duration) {
        let limit = self.plan.limit;
        self.go_on_until(Clock.uptime() + duration, |drive| {
            let idle = drive.flight.len() == 0 && drive.comers.is_empty();
            limit.is_some_and(|limit| drive.begun >= limit) && idle
        });
    }

    fn go_on_until(&mut self, deadline: Uptime, done: impl Fn(&Self) -> bool) {
        loop {
            let now = Clock.uptime();
            if now >= deadline || done(self) {
                return;
            }
            self.begin_what_is_due(now);
            self.wire.flush();
            let patience = self.idle_for(now).min(deadline.since(now));
            self.take_answers(patience);
            self.send_again();
            self.wire.flush();
        }
    }

    fn begin_what_is_due(&mut self, now: Uptime) {
        for _ in 0..BURST {
            if !self.begin_next(now) {
                return;
            }
        }
    }

    /// Begins one transaction if one is due.
    fn begin_next(&mut self, now: Uptime) -> bool {
        if let Some(&Reverse((at, user))) = self.comers.peek()
            && at <= now
            && self.phase != Phase::Drain
            && self.has_room()
        {
            self.comers.pop();
            self.report.came_back += u64::from(self.phase == Phase::Measure);
            self.begin(now, at, user);
            return true;
        }
        match (self.phase, self.plan.pace) {
            (Phase::Fill, _) => {
                if self.to_fill == 0 || !self.has_room() {
                    return false;
                }
                self.to_fill -= 1;
                let user = self.to_fill;
                self.begin(now, now, user);
                true
            }
            (Phase::Measure, Pace::Window(_)) => {
                if !self.has_room() || self.limit_reached() {
                    return false;
                }
                let Some(user) = self.next_idle(self.plan.users) else { return false };
                self.begun += 1;
                self.begin(now, now, user);
                true
            }
            (Phase::Measure, Pace::PerSecond(rate)) => {
                let at = Uptime::from_nanos(self.schedule as u64);
                if at > now || self.limit_reached() {
                    return false;
                }
                self.schedule += 1e9 / rate;
                self.begun += 1;
                match self.next_idle(1).filter(|_| self.has_room()) {
                    Some(user) => self.begin(now, at, user),
                    None => self.report.left_out += 1,
                }
                true
            }
            (Phase::Drain, _) => false,
        }
    }

    fn limit_reached(&self) -> bool {
        self.plan.limit.is_some_and(|limit| self.begun >= limit)
    }

    /// Whether one more may be under way.
    fn has_room(&self) -> bool {
        let window = match (self.phase, self.plan.pace) {
            (Phase::Fill, _) => self.plan.fill_window,
            (_, Pace::Window(window)) => window,
            (_, Pace::PerSecond(_)) => WINDOW_MAX,
        };
        self.flight.len() < window as usize
    }

    /// The next phone that has nothing under way, of so many that are looked at.
    fn next_idle(&mut self, looks: u32) -> Option<u32> {
        for _ in 0..looks.min(self.plan.users) {
            let user = self.turn;
            self.turn = (self.turn + 1) % self.plan.users;
            if self.phones.get(user as usize).is_some_and(|phone| !phone.busy) {
                return Some(user);
            }
        }
        None
    }

    fn begin(&mut self, now: Uptime, since: Uptime, user: u32) {
        let Some(phone) = self.phones.get_mut(user as usize) else { return };
        let asked = Asked { user, cseq: phone.cseq + 1, since, repeats: 0 };
        let Some(ticket) = self.flight.begin(now, asked) else { return };
        phone.cseq = asked.cseq;
        phone.busy = true;
        self.report.started += 1;
        self.send(ticket, asked);
    }

    fn send(&mut self, ticket: Ticket, asked: Asked) {
        let script = &self.script;
        self.wire.send(asked.user, |out| script.write(out, asked.user, ticket, asked.cseq));
    }

    /// How long nothing is due.
    fn idle_for(&mut self, now: Uptime) -> Duration {
        let open = matches!((self.phase, self.plan.pace), (Phase::Measure, Pace::PerSecond(_)));
        let scheduled =
            (open && !self.limit_reached()).then(|| Uptime::from_nanos(self.schedule as u64));
        let comer = self.comers.peek().map(|Reverse((at, _))| *at);
        let next = [scheduled, comer, self.flight.next()].into_iter().flatten().min();
        next.map_or(NAP, |at| at.since(now)).min(NAP)
    }

    fn take_answers(&mut self, patience: Duration) {
        let Self { wire, branch, flight, phones, report, latency, comers, plan, phase, .. } = self;
        let mut now = None;
        wire.receive(patience, |message| {
            let Some((status, ticket)) = script::understand(message, branch) else {
                report.strays += 1;
                return;
            };
            if status < 200 {
                return;
            }
            let Some(asked) = flight.end(ticket) else {
                report.strays += 1;
                return;
            };
            // One look at the clock for all that came together.
            let now = *now.get_or_insert_with(|| Clock.uptime());
            let Some(phone) = phones.get_mut(asked.user as usize) else { return };
            phone.busy = false;
            *report.answers.entry(status).or_default() += 1;
            latency.add(now.since(asked.since));
            if status < 300 {
                report.ok += 1;
                report.ok_late += u64::from(asked.repeats > 0);
                phone.registered = true;
                return;
            }
            report.refused += 1;
            let wait = if status == 503 && plan.honour_retry_after {
                script::retry_after(message).map(|it| Duration::from_secs(it.min(COME_BACK_MAX)))
            } else {
                None
            };
            let wait = if *phase == Phase::Fill { wait.or(Some(FILL_RETRY)) } else { wait };
            if let Some(wait) = wait {
                phone.busy = true;
                comers.push(Reverse((now + wait, asked.user)));
            }
        });
    }

    fn send_again(&mut self) {
        let now = Clock.uptime();
        while let Some(due) = self.flight.pop_due(now) {
            match due {
                Due::Repeat(ticket, asked) => {
                    self.report.retransmissions += 1;
                    self.send(ticket, asked);
                }
                Due::GivenUp(asked) => {
                    self.report.timeouts += 1;
                    if let Some(phone) = self.phones.get_mut(asked.user as usize) {
                        phone.busy = self.phase == Phase::Fill;
                    }
                    if self.phase == Phase::Fill {
                        self.comers.push(Reverse((now, asked.user)));
                    }
                }
            }
        }
    }
}

/// Of the thread that drives: the process may have others.
fn own_cpu() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from).unwrap_or_default()
}
