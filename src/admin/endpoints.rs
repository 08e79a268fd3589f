//! The one table of what can be asked and ordered. The listener answers by it and
//! `/v1/openapi.json` is written from it: what is not here is not there.

use hyper::Method;
use schemars::{Schema, SchemaGenerator};

use crate::admin::answer::{Page, Taken};
use crate::admin::asked::Asked;
use crate::admin::body::{self, Body, Wanted};
use crate::admin::route::{Refusal, Route};
use crate::door::{
    Command, Explanation, RebalancePlan, RecoveryStatus, RelocationStatus, Report, STANDINGS,
    Status, UserStatus, WHYS, WhatIf,
};
use crate::net::USERS_PAGE_LIMIT;

/// Something that can be asked or ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub(super) verb: Verb,
    /// Whose parts in braces stand for a name.
    pub(super) path: &'static str,
    /// What it is for, in one line.
    pub(super) says: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) body: Option<Body>,
    pub(super) answer: Answer,
    /// Statuses of refusals, beside those that every endpoint of its kind has.
    refuses: &'static [u16],
    pub(super) read: Read,
}

/// What a request means whose path is this endpoint's.
type Read = fn(&Asked) -> Result<Route, Refusal>;

/// How a type is described.
pub(super) type Described = fn(&mut SchemaGenerator) -> Schema;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// And HEAD.
    Get,
    /// Changes something: only for whoever has the token.
    Post,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Text,
    Json(Described),
    /// An OpenAPI document.
    Document,
    Taken(Described),
}

/// What may stand in a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) says: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Flag,
    Number {
        least: usize,
        most: usize,
        default: usize,
    },
    OneOf(&'static [&'static str]),
    /// May be repeated, so many times, and is there once at least.
    Many(usize),
}

const fn parameter(name: &'static str, kind: Kind, says: &'static str) -> Parameter {
    Parameter { name, kind, says }
}

const LIMIT: Parameter = parameter(
    "limit",
    Kind::Number { least: 1, most: USERS_PAGE_LIMIT, default: 100 },
    "how many a page holds at most",
);
const AFTER: Parameter = parameter(
    "after",
    Kind::Text,
    "where the page begins: `next` of the page before; not there: at the beginning",
);
const SERVER: Parameter = parameter("server", Kind::Text, "users who are served by this server");
const HOME: Parameter = parameter("home", Kind::Text, "users who belong to this server");
const PREFIX: Parameter = parameter(
    "prefix",
    Kind::Text,
    "users whose login name or one of whose addresses begins so, with or without `sip:`",
);
const AWAY: Parameter = parameter(
    "away",
    Kind::Flag,
    "true: users who are served elsewhere than at home; false: the others",
);
const STATE: Parameter =
    parameter("state", Kind::OneOf(&STANDINGS), "users one of whose bindings stands so");
const WHY: Parameter = parameter("why", Kind::OneOf(&WHYS), "users who are away for this reason");
const USERS: &[Parameter] = &[LIMIT, AFTER, SERVER, HOME, AWAY, STATE, PREFIX];
const RELOCATIONS: &[Parameter] = &[LIMIT, AFTER, SERVER, HOME, WHY, PREFIX];

const FROM: Parameter = parameter(
    "from",
    Kind::Number { least: 0, most: u32::MAX as usize, default: 0 },
    "the first move listed; each page is of a plan made anew",
);
const COUNT: Parameter = parameter(
    "count",
    Kind::Number { least: 0, most: USERS_PAGE_LIMIT, default: 100 },
    "how many moves are listed",
);
const KILL: Parameter = parameter("kill", Kind::Many(64), "a server that dies; they die together");

const STATUS: Described = SchemaGenerator::subschema_for::<Status>;
const USER: Described = SchemaGenerator::subschema_for::<UserStatus>;
const USER_PAGE: Described = SchemaGenerator::subschema_for::<Page<UserStatus>>;
const RELOCATION_PAGE: Described = SchemaGenerator::subschema_for::<Page<RelocationStatus>>;
const EXPLANATION: Described = SchemaGenerator::subschema_for::<Explanation>;
const WHAT_IF: Described = SchemaGenerator::subschema_for::<WhatIf>;
const REBALANCE: Described = SchemaGenerator::subschema_for::<RebalancePlan>;
const RECOVERY: Described = SchemaGenerator::subschema_for::<RecoveryStatus>;
const REPORTS: Described = SchemaGenerator::subschema_for::<Vec<Report>>;
const REPORT: Described = SchemaGenerator::subschema_for::<Report>;
const TAKEN: Described = SchemaGenerator::subschema_for::<Taken>;

/// All of them.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/healthz", "Whether the door's driver runs", Answer::Text, |_| Ok(Route::Health))
        .refuses(&[503]),
    get(
        "/readyz",
        "Whether every server's state is known, or was to be by now; stays so",
        Answer::Text,
        |_| Ok(Route::Ready),
    )
    .refuses(&[503]),
    get("/metrics", "Counters and gauges, Prometheus text format 0.0.4", Answer::Text, |_| {
        Ok(Route::Metrics)
    }),
    get("/v1/openapi.json", "This document", Answer::Document, |_| Ok(Route::OpenApi)),
    get("/v1/status", "The door's whole picture, without the users", Answer::Json(STATUS), |_| {
        Ok(Route::Status)
    })
    .refuses(&[503]),
    get("/v1/users", "Users who fit, page by page", Answer::Json(USER_PAGE), |it| {
        Ok(Route::Users { filter: it.filter(), after: it.text("after"), limit: it.number(LIMIT) })
    })
    .asks(USERS)
    .refuses(&[404, 410, 503]),
    get("/v1/users/{user}", "One user", Answer::Json(USER), |it| {
        Ok(Route::User { name: it.name()? })
    })
    .refuses(&[404, 503]),
    get(
        "/v1/explain/{user}",
        "What a login of this user gets now, and why",
        Answer::Json(EXPLANATION),
        |it| Ok(Route::Explain { name: it.name()? }),
    )
    .refuses(&[404, 503]),
    get("/v1/what-if", "What would happen if servers died", Answer::Json(WHAT_IF), |it| {
        let (from, count) = (it.number(FROM), it.number(COUNT));
        Ok(Route::WhatIf { killed: it.all("kill"), from, count })
    })
    .asks(&[KILL, FROM, COUNT])
    .refuses(&[404, 503]),
    get("/v1/rebalance", "Who would get another home", Answer::Json(REBALANCE), |it| {
        Ok(Route::Rebalance { from: it.number(FROM), count: it.number(COUNT) })
    })
    .asks(&[FROM, COUNT])
    .refuses(&[503]),
    get("/v1/relocations", "Who is away, page by page", Answer::Json(RELOCATION_PAGE), |it| {
        let (filter, after) = (it.filter(), it.text("after"));
        Ok(Route::Relocations { filter, after, limit: it.number(LIMIT) })
    })
    .asks(RELOCATIONS)
    .refuses(&[404, 410, 503]),
    get("/v1/recovery", "The way home", Answer::Json(RECOVERY), |_| Ok(Route::Recovery))
        .refuses(&[503]),
    get(
        "/v1/reports",
        "The newest 100 reports, oldest of them first",
        Answer::Json(REPORTS),
        |_| Ok(Route::Reports),
    )
    .refuses(&[503]),
    get(
        "/v1/reports/{report}",
        "What a failover, a drill or a return was like",
        Answer::Json(REPORT),
        |it| Ok(Route::Report { id: it.name()? }),
    )
    .refuses(&[404, 503]),
    order("/v1/recovery/pause", "Nobody goes home until `resume`; returns under way stop", |_| {
        Ok(Route::Order(Command::PauseRecovery))
    }),
    order("/v1/recovery/resume", "Users may go home again", |_| {
        Ok(Route::Order(Command::ResumeRecovery))
    }),
    order("/v1/servers/{server}/return", "Everybody whose home it is goes home, in stages", |it| {
        Ok(Route::Order(Command::ReturnServer(it.name()?)))
    }),
    order("/v1/users/{user}/return", "One user goes home", |it| {
        Ok(Route::Order(Command::ReturnUser(it.name()?)))
    }),
    order("/v1/users/{user}/home", "Another home for a user; no live connection is moved", |it| {
        Ok(Route::OrderWith(Wanted::Home { user: it.name()? }))
    })
    .with(body::HOME),
    order(
        "/v1/servers/{server}/drain",
        "It takes nobody new and its users leave; or no longer",
        |it| Ok(Route::OrderWith(Wanted::Drain { server: it.name()? })),
    )
    .with(body::DRAIN),
    order(
        "/v1/servers/{server}/maintenance",
        "Its users leave, unless they are to stay, and its health counts for nothing; or no longer",
        |it| Ok(Route::OrderWith(Wanted::Maintenance { server: it.name()? })),
    )
    .with(body::MAINTENANCE),
    order("/v1/servers/{server}/drill", "A failover on purpose", |it| {
        Ok(Route::Order(Command::Drill(it.name()?)))
    }),
    order("/v1/import", "Users are handed over: all of them are taken, or none is", |_| {
        Ok(Route::OrderWith(Wanted::Import))
    })
    .with(body::IMPORT),
    order("/v1/rebalance/start", "Homes are spread anew", |_| Ok(Route::Order(Command::Rebalance))),
    order("/v1/rebalance/stop", "Homes are spread no further", |_| {
        Ok(Route::Order(Command::StopRebalance))
    }),
    order("/v1/suspicion/end", "It is not our network: users of silent servers are moved", |_| {
        Ok(Route::Order(Command::EndSuspicion))
    }),
];

const fn get(path: &'static str, says: &'static str, answer: Answer, read: Read) -> Endpoint {
    Endpoint { verb: Verb::Get, path, says, query: &[], body: None, answer, refuses: &[], read }
}

/// One that names somebody may find that there is no such.
const fn order(path: &'static str, says: &'static str, read: Read) -> Endpoint {
    let order = get(path, says, Answer::Taken(TAKEN), read);
    Endpoint { verb: Verb::Post, refuses: &[404], ..order }
}

impl Endpoint {
    const fn asks(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    const fn with(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    const fn refuses(self, refuses: &'static [u16]) -> Self {
        Self { refuses, ..self }
    }

    /// Every status that a refusal here may have.
    pub(super) fn refusals(&self) -> Vec<u16> {
        let mut statuses = vec![400, 413, 421];
        statuses.extend(self.refuses);
        if self.verb == Verb::Post {
            statuses.extend([401, 403, 409, 503]);
        }
        if self.body.is_some() {
            statuses.push(408);
        }
        statuses.sort_unstable();
        statuses
    }

    /// The names in a path that is this endpoint's, as they stand there.
    fn names<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut names = Vec::new();
        let mut parts = path.split('/');
        for ours in self.path.split('/') {
            let part = parts.next()?;
            if ours.starts_with('{') && !part.is_empty() {
                names.push(part);
            } else if ours != part {
                return None;
            }
        }
        parts.next().is_none().then_some(names)
    }
}

impl Verb {
    const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }
}

/// Whose path and method these are, with the names in the path.
pub(super) fn find<'p>(
    method: &Method,
    path: &'p str,
) -> Result<(&'static Endpoint, Vec<&'p str>), Refusal> {
    let mut allow = Vec::new();
    for endpoint in ENDPOINTS {
        let Some(names) = endpoint.names(path) else { continue };
        match (endpoint.verb, method) {
            (Verb::Get, &Method::GET | &Method::HEAD) | (Verb::Post, &Method::POST) => {
                return Ok((endpoint, names));
            }
            (verb, _) => allow.push(verb.allow()),
        }
    }
    if allow.is_empty() { Err(Refusal::NotFound) } else { Err(Refusal::Method(allow.join(", "))) }
}
