//! What a client wants to be told for as long as its session lasts. It is remembered, and nothing is
//! ever told: nobody has presence, chats or journals here.

use crate::ucsap::{Member, Operation, Piece};
use crate::ucserver::clients::argument::Argument;
use crate::ucserver::clients::connections::{At, guid};
use crate::ucserver::clients::refusal::Refused;
use crate::ucserver::clients::{Around, Clients, written};

const CONTACT_IDS: Member = Member::nth("seqContactIDs", 0);
const CONTACT_ID: Member = Member::nth("u8sContactID", 0);
const SERVICE: Member = Member::nth("u8sServiceID", 0);
const AGENTS: Member = Member::nth("listAgents", 1);

/// What an invoke changes.
enum Change {
    /// To these, too.
    Add(Operation, Vec<String>),
    /// To these no longer.
    Remove(Operation, Vec<String>),
    /// To nothing any longer.
    RemoveAll(Operation),
}

impl Clients {
    /// Carries out a subscription, or the end of one.
    pub(in crate::ucserver) fn subscribe(
        &mut self,
        around: &Around<'_>,
        at: &At,
        operation: Operation,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let cross_ref = guid(&mut self.rng);
        let (change, result) = read(operation, argument, &cross_ref)?;
        let most = around.settings.clients.limits.subscriptions;
        let session = self.session_mut(at).ok_or(Refused::NOT_LOGGED_IN)?;
        let all = &mut session.subscriptions;
        match change {
            Change::Add(Operation(number), whats) => {
                let mut grown = all.clone();
                grown.extend(whats.into_iter().map(|what| (number, what)));
                if grown.len() > most {
                    return Err(Refused::FULL);
                }
                *all = grown;
            }
            Change::Remove(Operation(number), whats) => {
                for what in whats {
                    // Of an agent's monitor the reference is remembered behind the agent.
                    all.retain(|(it, kept)| {
                        *it != number
                            || *kept != what && kept.split('\n').nth(1) != Some(what.as_str())
                    });
                }
            }
            Change::RemoveAll(Operation(number)) => all.retain(|(it, _)| *it != number),
        }
        Ok(result)
    }
}

/// What `operation` asks for, and its result.
fn read(
    operation: Operation,
    argument: &Argument<'_>,
    cross_ref: &str,
) -> Result<(Change, Piece), Refused> {
    let integer = |name| written::sequence(vec![(name, Piece::Integer(0))]);
    let list = |name| written::sequence(vec![(name, Piece::List(Vec::new()))]);
    let whole = |on: bool| match on {
        true => Change::Add(operation, vec![String::new()]),
        false => Change::RemoveAll(operation),
    };
    Ok(match operation {
        Operation::SUBSCRIBE_SERVICES | Operation::MGMT_SUBSCRIBE_USERS => {
            (whole(true), written::empty())
        }
        Operation::CHAT_SUBSCRIBE => {
            (whole(argument.boolean(&Member::nth("bReceiveChatEvents", 0))?), integer("iResult"))
        }
        Operation::JOURNAL_SUBSCRIBE => {
            (whole(argument.boolean(&Member::nth("bReceiveJournalEvents", 0))?), integer("iResult"))
        }
        Operation::AGENT_MONITOR_START => {
            let agent = argument.text(&Member::nth("u8sAgentURI", 0))?;
            let result = written::sequence(vec![
                ("u8sMonitorCrossRefID", Piece::text(cross_ref)),
                ("listGroups", Piece::List(Vec::new())),
            ]);
            (Change::Add(operation, vec![format!("{agent}\n{cross_ref}")]), result)
        }
        Operation::AGENT_MONITOR_STOP => {
            let cross_ref = argument.text(&Member::nth("u8sMonitorCrossRefID", 0))?;
            (Change::Remove(Operation::AGENT_MONITOR_START, vec![cross_ref]), written::empty())
        }
        Operation::MGMT_SUBSCRIBE_LINES => {
            let line = argument.text(&Member::nth("u8sTAPILineID", 0))?;
            (Change::Add(operation, vec![line]), written::empty())
        }
        Operation::MGMT_UNSUBSCRIBE_LINES => {
            (Change::RemoveAll(Operation::MGMT_SUBSCRIBE_LINES), written::empty())
        }
        Operation::MGMT_SUBSCRIBE_CONNECTIONS => {
            (Change::Add(operation, vec![argument.text(&CONTACT_ID)?]), written::empty())
        }
        Operation::MGMT_UNSUBSCRIBE_CONNECTIONS => {
            let contact = vec![argument.text(&CONTACT_ID)?];
            (Change::Remove(Operation::MGMT_SUBSCRIBE_CONNECTIONS, contact), written::empty())
        }
        Operation::MGMT_UNSUBSCRIBE_USERS => {
            (Change::RemoveAll(Operation::MGMT_SUBSCRIBE_USERS), written::empty())
        }
        Operation::PERSISTENCE_SUBSCRIBE => {
            argument.integer(&Member::nth("iSubscribeType", 1))?;
            argument.text(&Member::nth("u8sItemStore", 2))?;
            let what = argument.text(&Member::nth("u8sCrossRefID", 0))?;
            (Change::Add(operation, vec![what]), written::empty())
        }
        Operation::SUBSCRIBE_PRESENCE => {
            let contacts = argument.texts(&CONTACT_IDS)?;
            (Change::Add(operation, contacts), list("seqSubscribedPresence"))
        }
        Operation::UNSUBSCRIBE_PRESENCE => {
            let contacts = argument.texts(&CONTACT_IDS)?;
            (Change::Remove(Operation::SUBSCRIBE_PRESENCE, contacts), integer("iResult"))
        }
        Operation::CONTENT_SUBSCRIBE => (whole(true), integer("iRevision")),
        Operation::CONTENT_UNSUBSCRIBE => {
            (Change::RemoveAll(Operation::CONTENT_SUBSCRIBE), written::empty())
        }
        Operation::CONTENT_SUBSCRIBE_TAGS => {
            (whole(argument.integer(&Member::nth("iSubscribe", 0))? != 0), written::empty())
        }
        Operation::CONTENT_SUBSCRIBE_ADMIN => {
            (whole(true), list("listAdministrativeMonitorGroups"))
        }
        Operation::CONTENT_UNSUBSCRIBE_ADMIN => {
            (Change::RemoveAll(Operation::CONTENT_SUBSCRIBE_ADMIN), written::success())
        }
        Operation::REGISTER_AGENTS => {
            let service = argument.text(&SERVICE)?;
            argument.list(&AGENTS)?;
            let result = written::sequence(vec![
                ("u8sServiceID", Piece::text(&*service)),
                ("bSuccess", Piece::Boolean(true)),
            ]);
            (Change::Add(operation, vec![service]), result)
        }
        Operation::UNREGISTER_AGENTS => {
            argument.list(&AGENTS)?;
            let service = vec![argument.text(&SERVICE)?];
            (Change::Remove(Operation::REGISTER_AGENTS, service), written::success())
        }
        _ => return Err(Refused::UNKNOWN),
    })
}
