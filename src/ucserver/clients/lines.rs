//! Lines, what is set on them, and who monitors them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::now::Uptime;
use crate::timers::Timers;
use crate::ucsap::{Member, Operation, Piece};
use crate::ucserver::clients::argument::Argument;
use crate::ucserver::clients::calls::Call;
use crate::ucserver::clients::connections::{At, guid};
use crate::ucserver::clients::refusal::Refused;
use crate::ucserver::clients::settings::fnv;
use crate::ucserver::clients::{Around, Clients, written};

pub(in crate::ucserver) const LINE: Member = Member::nth("u8sLinePhoneNumber", 0);
pub(in crate::ucserver) const FROM: Member = Member::nth("u8sPhoneNumberFrom", 0);
const CROSS_REF: Member = Member::nth("u8sMonitorCrossRefID", 0);

/// `eFORWARDMODEIMMEDIATE`.
const IMMEDIATE: i64 = 1;

/// All lines of which anything is known, their calls and their monitors.
#[derive(Debug)]
pub(in crate::ucserver) struct Lines {
    pub(in crate::ucserver) rng: fastrand::Rng,
    pub(in crate::ucserver) lines: BTreeMap<Arc<str>, Line>,
    pub(in crate::ucserver) monitors: BTreeMap<u64, Monitor>,
    last_monitor: u64,
    pub(in crate::ucserver) calls: BTreeMap<Arc<str>, Call>,
    /// Calls that go on.
    pub(in crate::ucserver) steps: Timers<Arc<str>>,
    /// Lines that tell of themselves now and then.
    beats: Timers<Arc<str>>,
    told: Vec<Told>,
}

/// A line.
#[derive(Debug, Default)]
pub(in crate::ucserver) struct Line {
    pub(in crate::ucserver) is_primary: bool,
    pub(in crate::ucserver) do_not_disturb: bool,
    pub(in crate::ucserver) forwards: Vec<Forward>,
    pub(in crate::ucserver) office: Office,
    pub(in crate::ucserver) calls: Vec<Arc<str>>,
    pub(in crate::ucserver) monitors: BTreeSet<u64>,
    last_forward: i64,
    /// There is an entry in `beats`.
    beats: bool,
}

/// `AsnLineForward`, as far as anything is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ucserver) struct Forward {
    pub(in crate::ucserver) id: i64,
    pub(in crate::ucserver) mode: i64,
    pub(in crate::ucserver) destination: String,
}

/// `AsnRemoteOfficeState`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ucserver) struct Office {
    pub(in crate::ucserver) controller: String,
    pub(in crate::ucserver) enabled: i64,
    pub(in crate::ucserver) destination: String,
}

/// Somebody watches a line.
#[derive(Clone, Debug)]
pub(in crate::ucserver) struct Monitor {
    pub(in crate::ucserver) cross_ref: Arc<str>,
    pub(in crate::ucserver) line: Arc<str>,
    pub(in crate::ucserver) at: At,
}

/// An event that is to be written.
#[derive(Debug)]
pub(in crate::ucserver) struct Told {
    pub(in crate::ucserver) to: At,
    pub(in crate::ucserver) event: Operation,
    pub(in crate::ucserver) argument: Piece,
}

impl Lines {
    pub(in crate::ucserver) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            lines: BTreeMap::new(),
            monitors: BTreeMap::new(),
            last_monitor: 0,
            calls: BTreeMap::new(),
            steps: Timers::default(),
            beats: Timers::default(),
            told: Vec::new(),
        }
    }

    pub(in crate::ucserver) fn next(&self) -> Option<Uptime> {
        [self.steps.next(), self.beats.next()].into_iter().flatten().min()
    }

    pub(in crate::ucserver) fn tick(&mut self, around: &Around<'_>) {
        self.step_calls(around);
        let every = around.settings.clients.line_events_every;
        while let Some(uri) = self.beats.pop_due(around.now) {
            let Some(line) = self.lines.get_mut(&uri) else { continue };
            line.beats = false;
            let is_primary = line.is_primary;
            if line.monitors.is_empty() {
                continue;
            }
            let info = ("lineInfo", written::line_info(&uri, is_primary));
            self.tell_monitors(&uri, Operation::LINE_INFO_CHANGED, &[info]);
            if let Some(every) = every {
                self.beat(&uri, around.now, every);
            }
        }
    }

    pub(in crate::ucserver) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    pub(in crate::ucserver) fn tell(&mut self, to: At, event: Operation, argument: Piece) {
        self.told.push(Told { to, event, argument });
    }

    /// An event for everybody who monitors the line, each under their own reference.
    pub(in crate::ucserver) fn tell_monitors(
        &mut self,
        uri: &str,
        event: Operation,
        more: &[(&'static str, Piece)],
    ) {
        let Some(line) = self.lines.get(uri) else { return };
        for monitor in line.monitors.iter().filter_map(|monitor| self.monitors.get(monitor)) {
            let mut members = vec![
                ("u8sMonitorCrossRefID", Piece::text(&*monitor.cross_ref)),
                ("u8sLinePhoneNumber", Piece::text(uri)),
            ];
            members.extend(more.iter().cloned());
            let argument = written::sequence(members);
            self.told.push(Told { to: monitor.at.clone(), event, argument });
        }
    }

    /// A line of the user's, by its URI or, where `or_number`, by its number.
    pub(in crate::ucserver) fn own(
        &mut self,
        around: &Around<'_>,
        user: &str,
        wanted: &str,
        or_number: bool,
    ) -> Result<(Arc<str>, &mut Line), Refused> {
        let settings = &around.settings.clients;
        let is_it =
            |uri: &String| uri == wanted || (or_number && written::number_of(uri) == wanted);
        let lines = settings.lines_of(user);
        let place = lines.iter().position(is_it).ok_or(Refused::NO_LINE)?;
        let uri: Arc<str> = lines[place].as_str().into();
        self.known(around, &uri, place == 0).map(|line| (uri, line))
    }

    pub(in crate::ucserver) fn known(
        &mut self,
        around: &Around<'_>,
        uri: &Arc<str>,
        is_primary: bool,
    ) -> Result<&mut Line, Refused> {
        let most = around.settings.clients.limits.lines;
        if !self.lines.contains_key(uri) && self.lines.len() >= most {
            return Err(Refused::FULL);
        }
        let fresh = || Line { is_primary, ..Line::default() };
        Ok(self.lines.entry(Arc::clone(uri)).or_insert_with(fresh))
    }

    pub(in crate::ucserver) fn snapshot(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let (uri, _) = self.own(around, user, &argument.text(&LINE)?, false)?;
        Ok(written::sequence(self.all_of(&uri)))
    }

    fn all_of(&self, uri: &Arc<str>) -> Vec<(&'static str, Piece)> {
        let Some(line) = self.lines.get(uri) else { return Vec::new() };
        let calls = line.calls.iter().filter_map(|call| self.calls.get(call));
        written::snapshot(uri, line, calls.map(written::call).collect())
    }

    pub(in crate::ucserver) fn set_do_not_disturb(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let wanted = argument.boolean(&Member::nth("bDoNotDisturb", 1))?;
        let (uri, line) = self.own(around, user, &argument.text(&LINE)?, false)?;
        if std::mem::replace(&mut line.do_not_disturb, wanted) != wanted {
            let now = ("iDoNotDisturb", Piece::Integer(wanted.into()));
            self.tell_monitors(&uri, Operation::DO_NOT_DISTURB_CHANGED, &[now]);
        }
        Ok(written::empty())
    }

    pub(in crate::ucserver) fn set_remote_office(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let wanted = argument.sequence(&Member::nth("remoteOfficeState", 1))?;
        let wanted = Office {
            controller: wanted.text(&Member::nth("u8sController", 0))?,
            enabled: wanted.integer(&Member::nth("iEnabled", 1))?,
            destination: wanted.text(&Member::nth("u8sDestination", 2))?,
        };
        let (uri, line) = self.own(around, user, &argument.text(&LINE)?, false)?;
        if line.office != wanted {
            let now = ("remoteOfficeState", written::office(&wanted));
            line.office = wanted;
            self.tell_monitors(&uri, Operation::REMOTE_OFFICE_CHANGED, &[now]);
        }
        Ok(written::empty())
    }

    /// One forward for each mode; another of the same takes its place.
    pub(in crate::ucserver) fn set_forward(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let destination = argument.text(&Member::nth("u8sPhoneNumberTo", 1))?;
        let mode = forward_mode(argument, &Member::nth("optionalParams", 2))?;
        let mode = mode.unwrap_or(IMMEDIATE);
        let most = around.settings.clients.limits.forwards;
        let (uri, line) = self.own(around, user, &argument.text(&FROM)?, true)?;
        let there = line.forwards.iter().position(|forward| forward.mode == mode);
        let replaced = there.is_some();
        if let Some(forward) = there.and_then(|place| line.forwards.get_mut(place)) {
            forward.destination = destination;
        } else if line.forwards.len() >= most {
            return Err(Refused::FULL);
        } else {
            line.last_forward += 1;
            let id = line.last_forward;
            line.forwards.push(Forward { id, mode, destination });
        }
        self.tell_forwards(&uri);
        Ok(written::sequence(vec![
            ("bSuccess", Piece::Boolean(true)),
            ("bExistingForwardingChanged", Piece::Boolean(replaced)),
        ]))
    }

    /// All of them, or the one that is named by mode and destination.
    pub(in crate::ucserver) fn remove_forward(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        const PARAMS: Member = Member::nth("optionalParams", 1);
        const DESTINATION: Member = Member::nth("ForwardDestination", 0);
        let mode = forward_mode(argument, &PARAMS)?;
        let destination = argument.option(&PARAMS, &DESTINATION)?;
        let destination = destination.map(|it| it.text().map(String::from)).transpose()?;
        let (uri, line) = self.own(around, user, &argument.text(&FROM)?, true)?;
        let before = line.forwards.len();
        line.forwards.retain(|forward| {
            mode.is_some_and(|mode| mode != forward.mode)
                || destination.as_ref().is_some_and(|it| *it != forward.destination)
        });
        if line.forwards.len() != before {
            self.tell_forwards(&uri);
        }
        Ok(written::success())
    }

    fn tell_forwards(&mut self, uri: &str) {
        let Some(line) = self.lines.get(uri) else { return };
        let now = ("seqLineForwards", written::forwards(&line.forwards));
        self.tell_monitors(uri, Operation::FORWARDING_CHANGED, &[now]);
    }

    pub(in crate::ucserver) fn forget_monitor(&mut self, monitor: u64) {
        let Some(gone) = self.monitors.remove(&monitor) else { return };
        if let Some(line) = self.lines.get_mut(&gone.line) {
            line.monitors.remove(&monitor);
        }
    }

    /// When the line tells of itself next: at the same place in each interval.
    fn beat(&mut self, uri: &Arc<str>, now: Uptime, every: Duration) {
        let Some(line) = self.lines.get_mut(uri) else { return };
        if std::mem::replace(&mut line.beats, true) {
            return;
        }
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let phase = fnv(uri.as_bytes()) % every;
        let into = now.as_nanos().wrapping_sub(phase) % every;
        self.beats.set(now + Duration::from_nanos(every - into), Arc::clone(uri));
    }
}

impl Clients {
    /// `asnCtiEnumPhoneLines`. Other lines than a user's own are an administrator's to see; of lines
    /// that are dedicated to a user by others there are none.
    pub(in crate::ucserver) fn enumerate(
        &mut self,
        around: &Around<'_>,
        at: &At,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let which = argument.enumerated(&Member::nth("typeofLines", 0))?;
        let attach = argument.integer(&Member::nth("attachChangeNotify", 1))? != 0;
        let lines = match which {
            0 => around.settings.clients.lines_of(user),
            1 => Vec::new(),
            2 | 3 => return Err(Refused::NOT_LOGGED_IN),
            _ => return Err(Refused::MISTYPED),
        };
        let info = lines.iter().enumerate();
        let info = info.map(|(place, uri)| written::line_info(uri, place == 0)).collect();
        let mut members = vec![("seqLines", Piece::List(info))];
        if attach {
            let fresh: Arc<str> = Arc::from(guid(&mut self.rng));
            let session = self.session_mut(at).ok_or(Refused::NOT_LOGGED_IN)?;
            // There is one for each session, however often it is asked for.
            let cross_ref = session.lines_watched.get_or_insert(fresh);
            members.push(("u8sLineMonitorCrossRefID", Piece::text(&**cross_ref)));
        }
        Ok(written::sequence(members))
    }

    pub(in crate::ucserver) fn monitor_start(
        &mut self,
        around: &Around<'_>,
        at: &At,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let limits = &around.settings.clients.limits;
        let wanted = argument.text(&LINE)?;
        let session = self.session(at).ok_or(Refused::NOT_LOGGED_IN)?;
        if session.monitors.len() >= limits.monitors_of_session
            || self.lines.monitors.len() >= limits.monitors
        {
            return Err(Refused::FULL);
        }
        let cross_ref: Arc<str> = Arc::from(guid(&mut self.rng));
        let id = self.lines.last_monitor + 1;
        let (uri, line) = self.lines.own(around, user, &wanted, false)?;
        line.monitors.insert(id);
        self.lines.last_monitor = id;
        let monitor =
            Monitor { cross_ref: Arc::clone(&cross_ref), line: Arc::clone(&uri), at: at.clone() };
        self.lines.monitors.insert(id, monitor);
        if let Some(every) = around.settings.clients.line_events_every {
            self.lines.beat(&uri, around.now, every);
        }
        let mut members = vec![("u8sMonitorCrossRefID", Piece::text(&*cross_ref))];
        members.extend(self.lines.all_of(&uri));
        if let Some(session) = self.session_mut(at) {
            session.monitors.insert(cross_ref, id);
        }
        Ok(written::sequence(members))
    }

    pub(in crate::ucserver) fn monitor_stop(
        &mut self,
        at: &At,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let cross_ref = argument.text(&CROSS_REF)?;
        let session = self.session_mut(at).ok_or(Refused::NOT_LOGGED_IN)?;
        let id = session.monitors.remove(&*cross_ref).ok_or(Refused::NO_LINE)?;
        self.lines.forget_monitor(id);
        Ok(written::empty())
    }

    /// A user has one line more, or less; who asked to be told is told. What monitors a line that is
    /// gone ends.
    pub(in crate::ucserver) fn line_changed(&mut self, user: &str, uri: &str, is_there: bool) {
        let mut watchers = Vec::new();
        for (connection, entry) in &self.connections {
            for (name, session) in &entry.sessions {
                if session.user.as_deref() == Some(user)
                    && let Some(cross_ref) = &session.lines_watched
                {
                    let at = At { connection: *connection, session: name.clone() };
                    watchers.push((at, Arc::clone(cross_ref)));
                }
            }
        }
        for (at, cross_ref) in watchers {
            let argument = written::sequence(vec![
                ("u8sLineMonitorCrossRefID", Piece::text(&*cross_ref)),
                ("u8sLinePhoneNumber", Piece::text(uri)),
                ("addremove", Piece::Enumerated(i64::from(!is_there))),
                ("lineInfo", written::line_info(uri, false)),
            ]);
            self.lines.tell(at, Operation::LINE_ADDED_OR_REMOVED, argument);
        }
        if is_there {
            return;
        }
        let monitors = self.lines.lines.get(uri).map(|line| line.monitors.clone());
        for id in monitors.into_iter().flatten() {
            let Some(Monitor { cross_ref, at, .. }) = self.lines.monitors.get(&id).cloned() else {
                continue;
            };
            let members = vec![("u8sMonitorCrossRefID", Piece::text(&*cross_ref))];
            let argument = written::sequence(members);
            self.lines.tell(at.clone(), Operation::MONITOR_STOPPED, argument);
            self.lines.forget_monitor(id);
            if let Some(session) = self.session_mut(&at) {
                session.monitors.remove(&cross_ref);
            }
        }
    }
}

fn forward_mode(argument: &Argument<'_>, params: &Member) -> Result<Option<i64>, Refused> {
    const MODE: Member = Member::nth("ForwardMode", 0);
    let mode = argument.option(params, &MODE)?;
    Ok(mode.map(|mode| mode.integer()).transpose()?)
}
