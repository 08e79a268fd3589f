//! [`Wishes`]: what a client has asked for that lasts, so that it can be asked for again at another
//! server (M9).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ucsap::cti::{self, LineState};
use crate::ucsap::{Malformed, Member, Message, Operation, Piece, Value};

const CONTACTS: Member = Member::nth("seqContactIDs", 0);

/// How wishes of one operation are told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Each has a cross reference of its own, which its server made.
    EachByCrossRef,
    /// As above, but only one that wants to be told of changes is a wish.
    IfAttached,
    /// The last one counts.
    Last,
    /// The last one for the text of this first member counts.
    ByFirst(&'static str),
    /// Each adds contacts, and contacts are taken away one by one.
    Contacts,
}

/// Every operation that makes a wish, and the one that ends it.
const TABLE: &[(Operation, Kept, Option<Operation>)] = &[
    (Operation::MONITOR_START, Kept::EachByCrossRef, Some(Operation::MONITOR_STOP)),
    (Operation::ENUM_LINES, Kept::IfAttached, None),
    (Operation::AGENT_MONITOR_START, Kept::EachByCrossRef, Some(Operation::AGENT_MONITOR_STOP)),
    (Operation::SUBSCRIBE_PRESENCE, Kept::Contacts, Some(Operation::UNSUBSCRIBE_PRESENCE)),
    (Operation::SUBSCRIBE_SERVICES, Kept::Last, None),
    (Operation::CHAT_SUBSCRIBE, Kept::Last, None),
    (Operation::JOURNAL_SUBSCRIBE, Kept::Last, None),
    (
        Operation::MGMT_SUBSCRIBE_LINES,
        Kept::ByFirst("u8sTAPILineID"),
        Some(Operation::MGMT_UNSUBSCRIBE_LINES),
    ),
    (
        Operation::MGMT_SUBSCRIBE_CONNECTIONS,
        Kept::ByFirst("u8sContactID"),
        Some(Operation::MGMT_UNSUBSCRIBE_CONNECTIONS),
    ),
    (Operation::MGMT_SUBSCRIBE_USERS, Kept::Last, Some(Operation::MGMT_UNSUBSCRIBE_USERS)),
    (Operation::PERSISTENCE_SUBSCRIBE, Kept::ByFirst("u8sCrossRefID"), None),
    (Operation::CONTENT_SUBSCRIBE, Kept::Last, Some(Operation::CONTENT_UNSUBSCRIBE)),
    (Operation::CONTENT_SUBSCRIBE_TAGS, Kept::Last, None),
    (Operation::CONTENT_SUBSCRIBE_ADMIN, Kept::Last, Some(Operation::CONTENT_UNSUBSCRIBE_ADMIN)),
    (Operation::REGISTER_AGENTS, Kept::ByFirst("u8sServiceID"), Some(Operation::UNREGISTER_AGENTS)),
];

/// One wish of a client.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) operation: Operation,
    /// As it was sent.
    pub(crate) argument: Vec<u8>,
    key: Option<String>,
    /// The cross reference the client got first, and keeps.
    ours: Option<Arc<str>>,
    /// The one of the server that serves it now; none while it is asked for anew.
    theirs: Option<Arc<str>>,
    /// Of a monitor: what the client knows of the line.
    line: Option<(String, LineState)>,
    /// Contacts that are still wanted, and those that were taken away again.
    contacts: Vec<String>,
    without: Vec<String>,
}

/// The wishes of one session.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    made: u32,
    list: BTreeMap<u32, Wish>,
    by_ours: BTreeMap<Arc<str>, u32>,
    by_theirs: BTreeMap<Arc<str>, u32>,
}

/// Whether an operation makes a wish.
fn kept(operation: Operation) -> Option<Kept> {
    TABLE.iter().find(|(made, ..)| *made == operation).map(|(_, kept, _)| *kept)
}

impl Wishes {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order in which they were made.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.list.keys().copied().collect()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Wish> {
        self.list.get(&number)
    }

    /// Calls of the lines that are monitored.
    pub(crate) fn calls(&self) -> usize {
        self.list.values().filter_map(|wish| wish.line.as_ref()).map(|(_, line)| line.calls()).sum()
    }

    /// A server has granted what a client asked: if that lasts, it is a wish now. `most`: how many
    /// there may be; one more is not kept, and `false`.
    ///
    /// # Errors
    /// Question or answer cannot be read.
    pub(crate) fn granted(
        &mut self,
        asked: &Message,
        answer: Option<&Value<'_>>,
        most: usize,
    ) -> Result<bool, Malformed> {
        let operation = asked.operation();
        self.end(asked)?;
        let Some(kept) = kept(operation) else { return Ok(true) };
        let Some(argument) = asked.body() else { return Ok(true) };
        if kept == Kept::IfAttached && !cti::attaches(&argument)? {
            return Ok(true);
        }
        let key = match kept {
            Kept::ByFirst(name) => Some(first(&argument, name)?),
            Kept::EachByCrossRef | Kept::IfAttached | Kept::Last | Kept::Contacts => None,
        };
        if matches!(kept, Kept::Last | Kept::ByFirst(_)) {
            self.list.retain(|_, wish| wish.operation != operation || wish.key != key);
        }
        if self.list.len() >= most {
            return Ok(false);
        }
        let mut wish = Wish {
            operation,
            argument: argument.octets_as_sent().to_vec(),
            key,
            ours: None,
            theirs: None,
            line: None,
            contacts: Vec::new(),
            without: Vec::new(),
        };
        if kept == Kept::Contacts {
            wish.contacts = contacts(&argument)?;
        }
        self.made += 1;
        if let (Kept::EachByCrossRef | Kept::IfAttached, Some(answer)) = (kept, answer)
            && let Some((cross_ref, _)) = cti::cross_ref_of_result(operation, answer)?
        {
            if operation == Operation::MONITOR_START {
                wish.line = Some((cti::line(&argument)?, LineState::read(answer)?));
            }
            let cross_ref: Arc<str> = cross_ref.into();
            self.by_ours.insert(Arc::clone(&cross_ref), self.made);
            self.by_theirs.insert(Arc::clone(&cross_ref), self.made);
            wish.ours = Some(Arc::clone(&cross_ref));
            wish.theirs = Some(cross_ref);
        }
        self.list.insert(self.made, wish);
        Ok(true)
    }

    /// What a client takes back is no wish any longer.
    pub(crate) fn end(&mut self, asked: &Message) -> Result<(), Malformed> {
        let ends =
            |ended: &&(Operation, Kept, Option<Operation>)| ended.2 == Some(asked.operation());
        let Some((operation, kept, _)) = TABLE.iter().find(ends) else { return Ok(()) };
        let Some(argument) = asked.body() else { return Ok(()) };
        match kept {
            Kept::EachByCrossRef | Kept::IfAttached => {
                let ours = first(&argument, "u8sMonitorCrossRefID")?;
                self.forget_ours(&ours);
            }
            Kept::Last => self.list.retain(|_, wish| wish.operation != *operation),
            Kept::ByFirst(name) => {
                let key = Some(first(&argument, name)?);
                self.list.retain(|_, wish| wish.operation != *operation || wish.key != key);
            }
            Kept::Contacts => {
                let gone = contacts(&argument)?;
                self.list
                    .retain(|_, wish| wish.operation != *operation || wish.is_left_without(&gone));
            }
        }
        Ok(())
    }

    fn forget_ours(&mut self, ours: &str) {
        let Some(number) = self.by_ours.remove(ours) else { return };
        if let Some(theirs) = self.list.remove(&number).and_then(|wish| wish.theirs) {
            self.by_theirs.remove(&theirs);
        }
    }

    /// The server's name for a cross reference of the client's, where there is another one.
    pub(crate) fn theirs(&self, ours: &str) -> Option<&str> {
        let wish = self.list.get(self.by_ours.get(ours)?)?;
        wish.theirs.as_deref()
    }

    /// The wish with this cross reference of the server's.
    fn with_theirs(&mut self, theirs: &str) -> Option<&mut Wish> {
        let number = self.by_theirs.get(theirs)?;
        self.list.get_mut(number)
    }

    /// Takes in an event, and gives it as the client is to see it.
    pub(crate) fn translate(&mut self, event: &Message) -> Message {
        let operation = event.operation();
        let Some(body) = event.body() else { return event.clone() };
        let Ok(Some((theirs, at))) = cti::cross_ref(operation, &body) else {
            return event.clone();
        };
        let Some(wish) = self.with_theirs(&theirs) else { return event.clone() };
        if let Some((_, line)) = &mut wish.line {
            // What cannot be read is not known; the client is to judge it.
            let _ = line.follow(operation, &body);
        }
        let Some(ours) = wish.ours.clone() else { return event.clone() };
        if operation == Operation::MONITOR_STOPPED {
            self.forget_ours(&ours);
        }
        if *ours == *theirs { event.clone() } else { event.with_text(at, &ours) }
    }

    /// A server that is gone has forgotten all of them.
    pub(crate) fn unserve(&mut self) {
        self.by_theirs.clear();
        for wish in self.list.values_mut() {
            wish.theirs = None;
        }
    }

    /// Another server has granted a wish: what the client has to be told so that it knows what is
    /// so there.
    ///
    /// # Errors
    /// The answer cannot be read.
    pub(crate) fn served(
        &mut self,
        number: u32,
        answer: &Value<'_>,
    ) -> Result<Vec<(Operation, Piece)>, Malformed> {
        let Some(wish) = self.list.get_mut(&number) else { return Ok(Vec::new()) };
        if wish.operation == Operation::SUBSCRIBE_PRESENCE {
            return presence_events(answer);
        }
        let Some((theirs, _)) = cti::cross_ref_of_result(wish.operation, answer)? else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        if let (Some((line, known)), Some(ours)) = (&mut wish.line, &wish.ours) {
            let now = LineState::read(answer)?;
            events = known.difference(&now, ours, line);
            *known = now;
        }
        if let (Operation::AGENT_MONITOR_START, Some(ours)) = (wish.operation, &wish.ours) {
            events.push(cti::groups_event(ours, answer)?);
        }
        let theirs: Arc<str> = theirs.into();
        wish.theirs = Some(Arc::clone(&theirs));
        self.by_theirs.insert(theirs, number);
        Ok(events)
    }

    /// Another server does not grant a wish: it is none any longer. What the client is told, if it
    /// can be told.
    pub(crate) fn refused(&mut self, number: u32) -> Option<(Operation, Piece)> {
        let wish = self.list.remove(&number)?;
        let ours = wish.ours?;
        self.by_ours.remove(&ours);
        (wish.operation == Operation::MONITOR_START)
            .then(|| (Operation::MONITOR_STOPPED, cti::for_monitor(&ours)))
    }
}

impl Wish {
    /// What takes away again what came with it and is not wanted any more.
    pub(crate) fn leftover(&self) -> Option<(Operation, Piece)> {
        if self.without.is_empty() {
            return None;
        }
        let contacts = self.without.iter().map(|contact| Piece::text(&**contact)).collect();
        let argument = Piece::Sequence(vec![(CONTACTS, Piece::List(contacts))]);
        Some((Operation::UNSUBSCRIBE_PRESENCE, argument))
    }

    /// Whether anything is left of it without these contacts.
    fn is_left_without(&mut self, gone: &[String]) -> bool {
        let taken = self.contacts.extract_if(.., |contact| gone.contains(contact));
        self.without.extend(taken);
        !self.contacts.is_empty()
    }
}

fn first(argument: &Value<'_>, name: &'static str) -> Result<String, Malformed> {
    let member = Member::nth(name, 0);
    Ok(argument.required(&member)?.text()?.into_owned())
}

fn contacts(argument: &Value<'_>) -> Result<Vec<String>, Malformed> {
    let items = argument.required(&CONTACTS)?.items()?;
    items.iter().map(|contact| Ok(contact.text()?.into_owned())).collect()
}

/// What is so of each contact, as the events that would have told it.
fn presence_events(answer: &Value<'_>) -> Result<Vec<(Operation, Piece)>, Malformed> {
    const ALL: i64 = 0x7FFF_FFFF;
    let Some(list) = answer.member(&Member::nth("seqSubscribedPresence", 0))? else {
        return Ok(Vec::new());
    };
    let event = |presence: &Value<'_>| {
        let presence = Piece::AsSent(presence.octets_as_sent().to_vec());
        let argument = Piece::Sequence(vec![
            (Member::nth("presence", 0), presence),
            (Member::nth("iChangedFlags", 1), Piece::Integer(ALL)),
        ]);
        (Operation::PRESENCE_CHANGED, argument)
    };
    Ok(list.items()?.iter().map(event).collect())
}
