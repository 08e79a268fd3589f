//! The play itself: one act after the other, all on one clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::cli::demo::bank;
use crate::cli::demo::board::{Board, ClientBoard};
use crate::cli::demo::client;
use crate::cli::demo::clients::Clients;
use crate::cli::demo::phones::Phones;
use crate::cli::demo::processes::{self, News, Processes};
use crate::cli::demo::report::{Kill, Report, Return, Sightings};
use crate::cli::demo::screen::{ClientView, Screen, View};
use crate::cli::demo::sessions::Sessions;
use crate::cli::demo::stage::{Addresses, Crowd, Place, Stage, configuration, return_pace};
use crate::cli::demo::{DemoError, Script};
use crate::cli::{http, out, status};
use crate::door::Status;
use crate::net::Clock;
use crate::now::Uptime;

/// News that may wait.
const NEWS: usize = 4096;
/// How long a process may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Phones get on with registering and clients with logging in, or the demo goes on without the rest.
const STALL_PATIENCE: Duration = Duration::from_secs(45);
/// After the last 200, so that the servers' first OPTIONS get through.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// After the kill.
const REHOME_PATIENCE: Duration = Duration::from_secs(60);
/// After the killed server was started again, beside the time that its phones need at their pace.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);
/// A ping's own patience (RFC 3261 timer F) and some more.
const PING_PATIENCE: Duration = Duration::from_secs(40);
/// So that every client hears of its line once more.
const HEAR_PATIENCE: Duration = Duration::from_secs(20);
/// Each watched line tells of itself so often at the most, and all together so often a second.
const LINE_EVENTS_EVERY: Duration = Duration::from_millis(500);
const LINE_EVENTS_PER_SECOND: usize = 5_000;
/// Pings of all servers together.
const PINGS_PER_SECOND: usize = 6_000;
/// Between two looks at the door, and at the clock.
const STATUS_EVERY: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(50);

/// Plays the script and gives the account.
pub(super) fn play(script: &Script) -> Result<Report, DemoError> {
    let mut play = Play::set_up(script)?;
    let all_there = play.register()? && play.log_in()?;
    if let (Some((server, after)), true) = (script.kill, all_there) {
        play.kill(server, after)?;
        if let (Some(after), Some(kill)) = (script.comeback, play.killed) {
            play.bring_back(kill, after)?;
        }
    }
    play.ping_everybody()?;
    play.listen()?;
    Ok(play.account())
}

/// Everything that runs. Fields are dropped in this order: clients and phones hang up, nobody reads news any
/// more (so that nobody is stuck telling it), children end, the directory goes.
struct Play<'s> {
    script: &'s Script,
    clients: Option<Clients>,
    phones: Option<Phones>,
    news: Receiver<News>,
    processes: Processes,
    stage: Stage,
    board: Arc<Board>,
    client_board: Arc<ClientBoard>,
    sightings: Sightings,
    sessions: Sessions,
    tell: SyncSender<News>,
    screen: Screen,
    door: Addresses,
    status: Option<Box<Status>>,
    phase: &'static str,
    killed: Option<Kill>,
    /// Where the servers are, by number.
    places: Vec<Place>,
    is_back: bool,
    pings_under_way: usize,
    /// Dropped at the end, which ends the thread that asks for the status.
    _asking: SyncSender<()>,
}

impl<'s> Play<'s> {
    /// Servers first, then the door, until it says that all servers are up.
    fn set_up(script: &'s Script) -> Result<Self, DemoError> {
        let stage = Stage::open(script.keep.as_deref())?;
        let (tell, news) = sync_channel(NEWS);
        let (asking, stop_asking) = sync_channel(0);
        let addresses = Addresses::free()?;
        let mut play = Self {
            script,
            clients: None,
            phones: None,
            news,
            processes: Processes::default(),
            stage,
            board: Arc::new(Board::new(script.phones)),
            client_board: Arc::new(ClientBoard::new(script.clients)),
            sightings: Sightings::new(script.names.len(), script.phones),
            sessions: Sessions::new(script.clients, client::is_bound),
            tell,
            screen: Screen::new(script.silent),
            door: addresses,
            status: None,
            phase: "starting",
            killed: None,
            places: Vec::new(),
            is_back: false,
            pings_under_way: 0,
            _asking: asking,
        };
        play.places = play.start_servers()?;
        let config = play.stage.file("frontdoor.toml");
        let comes_back = script.comeback.is_some();
        let text = configuration(addresses, &play.places, play.crowd(), comes_back);
        std::fs::write(&config, text)
            .map_err(|source| DemoError::System { what: "cannot write a file", source })?;
        play.processes.start_door(&config, &play.stage.file("door.log"))?;
        let tell = play.tell.clone();
        processes::spawn("status", move || ask(addresses.admin, &tell, &stop_asking))?;
        let all_up = |play: &Self| {
            play.status.as_ref().is_some_and(|status| {
                !status.servers.is_empty() && status.servers.iter().all(|s| &*s.state == "up")
            })
        };
        if !play.wait(Clock.uptime() + START_PATIENCE, all_up)? {
            return Err(play.not_started("the door", "door.log"));
        }
        Ok(play)
    }

    fn start_servers(&mut self) -> Result<Vec<Place>, DemoError> {
        let names = &self.script.names;
        for name in names {
            let log = self.stage.file(&format!("{name}.log"));
            self.processes.start_server(name, self.line_events(), &log, self.tell.clone())?;
        }
        let mut places: Vec<Option<Place>> = vec![None; names.len()];
        let deadline = Clock.uptime() + START_PATIENCE;
        loop {
            let missing = places.iter().zip(names).find(|(place, _)| place.is_none());
            let Some((_, name)) = missing else { break };
            let missing = |play: &Self| play.not_started(name, &format!("{name}.log"));
            let left = deadline.since(Clock.uptime());
            match self.news.recv_timeout(left) {
                Ok(News::Ready { server, sip, clients }) => {
                    if let (Some(place), Some(name)) = (places.get_mut(server), names.get(server)) {
                        *place = Some(Place { name: name.clone(), sip, clients });
                    }
                }
                Ok(News::Gone { .. }) | Err(_) => return Err(missing(self)),
                Ok(other) => self.take(other)?,
            }
        }
        Ok(places.into_iter().flatten().collect())
    }

    /// How often a server tells clients of their lines; none where there are no clients.
    fn line_events(&self) -> Option<Duration> {
        let clients = self.script.clients;
        let all = Duration::from_secs_f64(clients as f64 / LINE_EVENTS_PER_SECOND as f64);
        (clients > 0).then(|| LINE_EVENTS_EVERY.max(all))
    }

    const fn crowd(&self) -> Crowd {
        Crowd { phones: self.script.phones, clients: self.script.clients }
    }

    /// All phones; `false` if some cannot.
    fn register(&mut self) -> Result<bool, DemoError> {
        self.phase = "phones register";
        let phones = self.script.phones;
        self.phones = Some(
            Phones::start(phones, self.door.phones, &self.board, self.tell.clone())
                .map_err(|source| DemoError::System { what: "no sockets for phones", source })?,
        );
        self.while_it_grows(phones, Self::registered)
    }

    /// All clients; `false` if some cannot.
    fn log_in(&mut self) -> Result<bool, DemoError> {
        let clients = self.script.clients;
        if clients == 0 {
            return Ok(true);
        }
        self.phase = "clients log in";
        self.clients = Some(
            Clients::start(clients, self.door.clients, &self.client_board)
                .map_err(|source| DemoError::System { what: "no sockets for clients", source })?,
        );
        self.while_it_grows(clients, Self::logged_in)
    }

    /// Waits until there are so many; `false` once there are not, and no more come.
    fn while_it_grows(
        &mut self,
        wanted: usize,
        there: impl Fn(&Self) -> usize,
    ) -> Result<bool, DemoError> {
        let mut before = 0;
        loop {
            if self.wait(Clock.uptime() + STALL_PATIENCE, |play| there(play) >= wanted)? {
                return Ok(true);
            }
            if there(self) == before {
                return Ok(false);
            }
            before = there(self);
        }
    }

    /// Waits, kills, and waits until everybody is reached elsewhere or patience ends.
    fn kill(&mut self, server: usize, after: Duration) -> Result<(), DemoError> {
        let kill_at = Clock.uptime() + after;
        self.phase = "everybody is there";
        self.wait(kill_at, |_| false)?;
        // Whose phone it was is known only once the server has reached it.
        let Crowd { phones, clients } = self.crowd();
        self.wait(Clock.uptime() + SETTLE_PATIENCE, |play| {
            play.sightings.known() >= phones && play.sessions.known() >= clients
        })?;
        let Some(at_nanos) = self.processes.kill(server) else { return Ok(()) };
        let kill = Kill { server, at_nanos };
        self.board.killed(at_nanos);
        self.client_board.killed(at_nanos);
        self.sightings.killed(kill);
        self.sessions.killed(kill);
        self.killed = Some(kill);
        self.phase = "a server was killed";
        // Where nobody is left to go to, there is nothing to wait for.
        let hopeless = self.script.names.len() == 1;
        let everybody = |play: &Self| {
            let affected = play.sightings.affected();
            let all_served =
                play.rehomed() >= affected && play.resumed() >= play.sessions.affected();
            (hopeless || all_served) && play.detected_nanos().is_some()
        };
        self.wait(Uptime::from_nanos(at_nanos) + REHOME_PATIENCE, everybody)?;
        Ok(())
    }

    /// Waits, starts the killed server again, and waits until everybody is at home.
    fn bring_back(&mut self, kill: Kill, after: Duration) -> Result<(), DemoError> {
        self.wait(Uptime::from_nanos(kill.at_nanos) + after, |_| false)?;
        let (server, line_events) = (kill.server, self.line_events());
        let Some(place) = self.places.get(server) else { return Ok(()) };
        let log = self.stage.file(&format!("{}-again.log", place.name));
        let tell = self.tell.clone();
        let at_nanos = self.processes.start_again(server, place, line_events, &log, tell)?;
        self.sightings.back(at_nanos);
        self.sessions.back(at_nanos);
        self.is_back = true;
        self.phase = "the server is back, its users go home";
        let affected = self.sightings.affected();
        let users = affected.max(self.sessions.affected());
        let sending = Duration::from_secs((users / return_pace(self.crowd().users())) as u64);
        let deadline = Uptime::from_nanos(at_nanos) + RETURN_PATIENCE + sending;
        self.wait(deadline, |play| {
            // The last look is over, too: that is what makes it a return.
            let returns = play.status.iter().flat_map(|status| &status.recovery.returns);
            let done =
                returns.filter(|it| it.ended_nanos > at_nanos).any(|it| &*it.state == "done");
            let phones_home = play.sightings.returned() + play.stayed() >= affected;
            let clients_home = play.sessions.at_home() >= play.sessions.expected_home();
            done && phones_home && clients_home
        })?;
        Ok(())
    }

    /// What the door says of the return.
    fn comeback(&self) -> Return {
        let returns = self.status.iter().flat_map(|status| &status.recovery.returns);
        Return {
            pace_per_s: return_pace(self.crowd().users()),
            stages: returns.clone().last().map_or(0, |last| last.stage),
            aborted: returns.filter(|it| &*it.state == "stopped").count(),
            stayed: self.stayed(),
        }
    }

    /// Phones that are not to come home, because a client of their user cannot be moved unnoticed.
    fn stayed(&self) -> usize {
        let clients = self.script.clients;
        self.sightings.stayed(|phone| phone < clients && client::is_bound(phone))
    }

    /// Every living server tries every phone it knows; those that are not reached, once more.
    fn ping_everybody(&mut self) -> Result<(), DemoError> {
        if self.script.phones > 0 {
            self.phase = "every server pings every phone";
        }
        let phones = self.script.phones;
        self.wait(Clock.uptime() + SETTLE_PATIENCE, |play| {
            play.killed.is_some() || play.sightings.known() >= phones
        })?;
        self.sightings.begin_round(Clock.uptime().as_nanos());
        for _attempt in 0..2 {
            let per_server = PINGS_PER_SECOND.div_ceil(self.script.names.len());
            let per_second = u32::try_from(per_server).unwrap_or(1);
            self.pings_under_way = self.processes.ping_all(per_second);
            let sending = Duration::from_secs((phones / per_server.max(1)) as u64);
            let deadline = Clock.uptime() + sending + PING_PATIENCE;
            self.wait(deadline, |play| play.pings_under_way == 0)?;
            if self.lost() == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Every client hears of its line once more.
    fn listen(&mut self) -> Result<(), DemoError> {
        if self.script.clients > 0 {
            self.phase = "every client hears of its line";
        }
        self.sessions.begin_round(Clock.uptime().as_nanos());
        let all_hear =
            |play: &Self| play.sessions.all_hear(|client| play.client_board.side(client));
        let patience = HEAR_PATIENCE + self.line_events().unwrap_or_default();
        self.wait(Clock.uptime() + patience, all_hear)?;
        self.phase = "done";
        self.show();
        Ok(())
    }

    fn account(&self) -> Report {
        let now = Clock.uptime().as_nanos();
        let side = |phone| self.board.side(phone);
        let (names, detected) = (&self.script.names, self.detected_nanos());
        let clients = self.sessions.report(
            Board::read(&self.client_board.strange),
            |client| self.client_board.side(client),
            |client| self.sightings.server_of(client),
        );
        Report { clients, ..self.sightings.report(names, now, detected, self.comeback(), side) }
    }

    /// Takes news until something is so, or the deadline; whether it is so.
    fn wait(&mut self, deadline: Uptime, is_so: impl Fn(&Self) -> bool) -> Result<bool, DemoError> {
        loop {
            self.show();
            if is_so(self) {
                return Ok(true);
            }
            let now = Clock.uptime();
            if now >= deadline {
                return Ok(false);
            }
            match self.news.recv_timeout(deadline.since(now).min(TICK)) {
                Ok(news) => self.take(news)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            // What waits already is taken before anything is counted again.
            while let Ok(news) = self.news.try_recv() {
                self.take(news)?;
            }
            if self.processes.door_ended() {
                return Err(DemoError::DoorEnded { tail: self.stage.tail("door.log") });
            }
        }
    }

    fn take(&mut self, news: News) -> Result<(), DemoError> {
        match news {
            News::Reached { server, sightings } => {
                for seen in sightings {
                    if let Some(phone) = bank::phone_of_aor(&seen.aor) {
                        self.sightings.reached(server, phone, seen.at_nanos);
                    }
                }
            }
            News::LoggedIn { server, logins } => {
                for login in logins {
                    if let Some(client) = bank::phone_of_login(&login.user) {
                        self.sessions.logged_in(server, client, login.at_nanos);
                    }
                }
            }
            News::PingAllDone => self.pings_under_way = self.pings_under_way.saturating_sub(1),
            News::Status(status) => self.status = Some(status),
            News::Trouble { server, what } => {
                let name = self.script.names.get(server).map_or("a server", String::as_str);
                out::note(format_args!("{name}: {what}"));
            }
            News::Ready { .. } => {}
            News::Gone { server } => {
                // Of a killed one this may be the first life's end.
                if self.killed.is_none_or(|kill| kill.server != server) {
                    let name = self.script.names.get(server).map_or("a server", String::as_str);
                    out::note(format_args!("{name} ended, and was not told to"));
                    self.pings_under_way = self.pings_under_way.saturating_sub(1);
                }
            }
            News::Interrupted => return Err(DemoError::Interrupted),
        }
        Ok(())
    }

    fn show(&mut self) {
        let rehomed = self.killed.map(|_| (self.sightings.affected(), self.rehomed()));
        let view = View {
            phase: self.phase,
            phones: self.script.phones,
            registered: self.registered(),
            status: self.status.as_deref(),
            rehomed,
            returned: self.is_back.then(|| self.sightings.returned()),
            clients: self.client_view(),
        };
        self.screen.show(Clock.uptime(), &view);
    }

    fn client_view(&self) -> Option<ClientView> {
        (self.script.clients > 0).then(|| ClientView {
            clients: self.script.clients,
            logged_in: self.logged_in(),
            resumed: self.killed.map(|_| (self.sessions.affected(), self.resumed())),
            at_home: self.is_back.then(|| (self.sessions.expected_home(), self.sessions.at_home())),
        })
    }

    fn logged_in(&self) -> usize {
        usize::try_from(Board::read(&self.client_board.logged_in)).unwrap_or(usize::MAX)
    }

    fn resumed(&self) -> usize {
        self.sessions.resumed(|client| self.client_board.side(client))
    }

    fn registered(&self) -> usize {
        usize::try_from(Board::read(&self.board.registered)).unwrap_or(usize::MAX)
    }

    fn rehomed(&self) -> usize {
        self.sightings.rehomed(|phone| self.board.side(phone))
    }

    fn lost(&self) -> usize {
        self.sightings.lost(Clock.uptime().as_nanos(), |phone| self.board.side(phone))
    }

    /// When the door knew of the kill.
    fn detected_nanos(&self) -> Option<u64> {
        let kill = self.killed?;
        let name = self.script.names.get(kill.server)?;
        let failovers = &self.status.as_ref()?.failovers;
        failovers
            .iter()
            .filter(|failover| *failover.server == **name)
            .map(|failover| failover.detected_nanos)
            .find(|detected| *detected >= kill.at_nanos)
    }

    fn not_started(&self, who: &str, log: &str) -> DemoError {
        let patience_s = START_PATIENCE.as_secs();
        DemoError::NotStarted { who: who.to_owned(), patience_s, tail: self.stage.tail(log) }
    }
}

/// Asks the door how it is, again and again.
fn ask(admin: SocketAddr, tell: &SyncSender<News>, stop: &Receiver<()>) {
    loop {
        // No answer is no news: the door may be starting, or stopping.
        if let Ok(status) = http::get::<Status>(admin, status::PATH)
            && tell.send(News::Status(Box::new(status))).is_err()
        {
            return;
        }
        match stop.recv_timeout(STATUS_EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
