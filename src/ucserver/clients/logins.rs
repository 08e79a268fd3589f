//! Who is talking, and who they are.

use std::sync::Arc;

use crate::now::Uptime;
use crate::ucsap::login::{self, Credentials};
use crate::ucsap::negotiate::{self, Negotiation};
use crate::ucsap::{Encoding, Member, Piece};
use crate::ucserver::clients::argument::Argument;
use crate::ucserver::clients::connections::{At, Session, guid};
use crate::ucserver::clients::dispatch::identity;
use crate::ucserver::clients::refusal::Refused;
use crate::ucserver::clients::settings::{ClientHome, ClientSettings};
use crate::ucserver::clients::tokens::Bearer;
use crate::ucserver::clients::{Around, Clients, written};
use crate::ucserver::journal::Event;
use crate::ucserver::mood::Mood;

/// `AsnLoginV2SupportedAuthMethod`: basic, NTLM, Kerberos, bearer, OpenID Connect.
const METHODS: [i64; 5] = [1, 3, 4, 5, 6];

/// Octets of a sessionID.
const SESSION_NAME_MAX: usize = 256;

const MIN_VERSION: Member = Member::nth("u8sMinSupportedInterfaceVersion", 0);
const MAX_VERSION: Member = Member::nth("u8sMaxSupportedInterfaceVersion", 1);
const DEVICE_ID: Member = Member::nth("u8sClientDeviceId", 2);
const CLIENT_VERSION: Member = Member::nth("u8sClientVersion", 3);
const CLIENT_APP: Member = Member::nth("eClientAppID", 4);
const FORMER_CONNECTION: Member = Member::tagged("u8sConnectionGUID", 0);
const DEVICE_NAME: Member = Member::nth("u8sClientDeviceName", 5);
const CAPABILITIES: Member = Member::nth("iClientCapabilities", 6);

/// What a look at credentials comes to.
enum Proven {
    /// It is this user.
    User(Arc<str>),
    /// Here is what they have to answer.
    OneMoreStep(Piece),
}

impl Clients {
    pub(in crate::ucserver) fn negotiate(
        &mut self,
        around: &Around<'_>,
        at: &At,
        encoding: Encoding,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        for text in [&DEVICE_ID, &CLIENT_VERSION, &DEVICE_NAME] {
            argument.text(text)?;
        }
        argument.enumerated(&CLIENT_APP)?;
        argument.integer(&CAPABILITIES)?;
        let (oldest, newest) = (argument.text(&MIN_VERSION)?, argument.text(&MAX_VERSION)?);
        argument.optional_text(&FORMER_CONNECTION)?;
        let client = Negotiation::read(argument.value())?;
        let settings = &around.settings.clients;
        if let Some(seconds) = settings.busy_secs {
            return Ok(negotiate::busy(seconds.into()));
        }
        let own = version(&settings.interface_version);
        if version(&oldest).is_none_or(|oldest| Some(oldest) > own)
            || version(&newest).is_none_or(|newest| Some(newest) < own)
        {
            return Ok(negotiate::incompatible(&settings.interface_version));
        }
        if self.session(at).is_some_and(|session| session.user.is_some()) {
            return Err(Refused::LOGGED_IN_ALREADY);
        }
        let guid = guid(&mut self.rng);
        let entry = self.connections.get_mut(&at.connection).ok_or(Refused::FULL)?;
        let is_long = at.session.as_ref().is_some_and(|name| name.len() > SESSION_NAME_MAX);
        let is_full = entry.sessions.len() >= settings.limits.sessions;
        if is_long || (is_full && !entry.sessions.contains_key(&at.session)) {
            return Err(Refused::FULL);
        }
        let time = written::time(around.wall);
        let answer = identity(around.settings, time).negotiated(&guid);
        entry.sessions.insert(at.session.clone(), Session::new(encoding, client, guid));
        Ok(answer)
    }

    pub(in crate::ucserver) fn login(
        &mut self,
        around: &mut Around<'_>,
        at: &At,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let session = self.session(at).ok_or(Refused::NEGOTIATE_FIRST)?;
        if session.user.is_some() {
            return Err(Refused::LOGGED_IN_ALREADY);
        }
        let credentials = Credentials::read(argument.value())?;
        let proven = self.prove(around, at, &credentials, argument);
        if proven.is_err() {
            around.journal.count().clients.logins_refused += 1;
        }
        let user = match proven? {
            Proven::User(user) => user,
            Proven::OneMoreStep(step) => return Ok(step),
        };
        let settings = &around.settings.clients;
        if around.mood == Mood::StrictHome {
            match settings.homes.get(&*user) {
                Some(ClientHome::At(home)) => {
                    around.journal.count().clients.redirected += 1;
                    return Ok(login::redirect(home));
                }
                Some(ClientHome::Unknown) => {
                    around.journal.count().clients.logins_refused += 1;
                    return Err(Refused::ELSEWHERE);
                }
                None => {}
            }
        }
        let full = around.settings.capacity_users.is_some_and(|it| self.users.len() >= it as usize);
        if full && !self.users.contains_key(&user) {
            around.journal.count().clients.busy += 1;
            return Ok(login::busy(around.settings.retry_after_secs.into()));
        }
        let token = self.new_token(around.now, settings, &user);
        *self.users.entry(Arc::clone(&user)).or_default() += 1;
        if let Some(session) = self.session_mut(at) {
            session.user = Some(Arc::clone(&user));
        }
        around.journal.count().clients.logins += 1;
        let answer = login::succeeded(&user, Some(&token));
        around.journal.write(around.now, Event::LoggedIn { user, connection: at.connection });
        Ok(answer)
    }

    /// `asnGetUserTokenV2`.
    pub(in crate::ucserver) fn user_token(
        &mut self,
        around: &Around<'_>,
        user: &Arc<str>,
    ) -> Piece {
        let token = self.new_token(around.now, &around.settings.clients, user);
        Piece::Sequence(vec![(Member::nth("sToken", 0), Piece::text(&*token))])
    }

    fn new_token(&mut self, now: Uptime, settings: &ClientSettings, user: &Arc<str>) -> Arc<str> {
        let until = now + settings.token_lifetime;
        self.tokens.issue(&mut self.rng, user, until, settings.limits.tokens)
    }

    /// Whether somebody is who they say. NTLM takes two steps, whose proof is not looked at; a blob
    /// of Kerberos and a token of OpenID Connect are the name of the user here.
    fn prove(
        &mut self,
        around: &Around<'_>,
        at: &At,
        credentials: &Credentials,
        argument: &Argument<'_>,
    ) -> Result<Proven, Refused> {
        let settings = &around.settings.clients;
        let known = |user: &str| {
            let user = settings.knows(user).then(|| Proven::User(Arc::from(user)));
            user.ok_or(Refused::WHO)
        };
        match credentials {
            Credentials::None => Ok(Proven::OneMoreStep(login::methods(&METHODS))),
            Credentials::Basic(pair) => {
                let (user, password) = pair.reveal().split_once(':').ok_or(Refused::WHO)?;
                if !settings.takes(user, password) {
                    return Err(Refused::WHO);
                }
                known(user)
            }
            Credentials::Bearer(token) => {
                match self.tokens.bearer(token.reveal(), around.now, around.wall) {
                    Bearer::User(user) => known(&user),
                    Bearer::Expired => Err(Refused::TOO_LATE),
                    Bearer::Unknown => Err(Refused::WHO),
                }
            }
            Credentials::Ntlm(step) => {
                let session = self.session_mut(at).ok_or(Refused::NEGOTIATE_FIRST)?;
                // Each step is good for once.
                let is_challenged = std::mem::take(&mut session.is_challenged);
                if step.reveal().starts_with(b"NTLMSSP\0\x01\0\0\0") {
                    session.is_challenged = true;
                    return Ok(Proven::OneMoreStep(login::next_step(&challenge())));
                }
                let user = credentials.claimed_user().filter(|_| is_challenged);
                let user = user.ok_or(Refused::WHO)?;
                // With or without its domain.
                let bare = user.rsplit_once('\\').map_or(&*user, |(_, bare)| bare);
                known(if settings.knows(&user) && settings.users.is_some() { &user } else { bare })
            }
            Credentials::Kerberos(blob) => {
                known(std::str::from_utf8(blob.reveal()).map_err(|_| Refused::WHO)?)
            }
            Credentials::OpenId => {
                let token = login::id_token(argument.value())?.ok_or(Refused::WHO)?;
                known(token.reveal())
            }
            Credentials::Other => Err(Refused::NO_METHOD),
        }
    }
}

/// The second message of NTLM ([MS-NLMP] §2.2.1.2), in which nothing is random: nobody computes
/// anything with it.
fn challenge() -> Vec<u8> {
    let mut message = b"NTLMSSP\0\x02\0\0\0".to_vec();
    message.resize(48, 0);
    // Unicode, NTLM.
    message[20..24].copy_from_slice(&0x0201_u32.to_le_bytes());
    message[24..32].copy_from_slice(b"frontUCS");
    message
}

/// A version as numbers.
fn version(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|number| number.parse().ok()).collect()
}
