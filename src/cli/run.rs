//! `frontdoor run`: builds everything the configuration names, and runs it until told to stop.

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::admin;
use crate::cli::CliError;
use crate::cli::import::{self, Import};
use crate::config::certificates::Watcher;
use crate::config::{Config, StorePlace, token};
use crate::directory::record::{Loaded, Record, Recorded};
use crate::door::{Door, Event};
use crate::net::{self, Clock, Ledger, Net, Observers};
use crate::now::Now;
use crate::private::Private;
use crate::reports::{Clerk, Shelf};
use crate::store::{self, Embedded, FileDisk, Memory, Store, Writer};
use crate::telemetry;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End when standard input does: for a parent process that must not leave a door behind
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Runs until SIGTERM or Ctrl-C.
pub(super) fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    let config = Config::read(&args.config)?;
    telemetry::init(&config.log)?;
    for warning in &config.warnings {
        warn!("{}", warning.at(&config.path));
    }
    let token_key = token::read_or_create(&config.token_file)?;
    let admin_token = token::read_or_create(&config.admin_token_file)?;
    let certificates = match &config.certificates {
        none if none.is_empty() => None,
        files => Some(Watcher::start(files.clone())?),
    };
    let (store, loaded) = open_store(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the system gives no event loop"))?;
    let keys = (token_key, admin_token);
    let shown = certificates.as_ref().map(|(_, shown)| Arc::clone(shown));
    let net = net::Settings { certificates: shown, ..config.net_settings() };
    let stored = (store, loaded);
    runtime.block_on(serve(&config, net, keys, stored, args.exit_with_stdin))?;
    Ok(ExitCode::SUCCESS)
}

/// The store with what it held, the users of the file added.
fn open_store(config: &Config) -> Result<(Box<dyn Store>, Loaded), CliError> {
    let mut store: Box<dyn Store> = match &config.store {
        StorePlace::Memory => Box::new(Memory::new()),
        StorePlace::File(path) => {
            let defaults = store::Settings::default();
            let users = u64::try_from(config.users.len()).unwrap_or(u64::MAX);
            let reserve_users_min = defaults.reserve_users_min.max(users);
            let settings = store::Settings { reserve_users_min, ..defaults };
            Box::new(Embedded::open(FileDisk::new(path), settings)?)
        }
    };
    let mut loaded = store.load()?;
    let Import { added, skipped } = import::additions(&loaded, &config.users);
    for line in skipped {
        warn!("{line}");
    }
    if !added.is_empty() {
        let changes = added.iter().cloned().map(import::as_change).collect();
        match store.commit(&[Record { ticket: 0, changes }]).pop() {
            Some(Recorded::Done) => {}
            Some(Recorded::Failed(why)) => return Err(CliError::Import(why)),
            // Nobody else writes: the store was opened for this process alone.
            Some(Recorded::Conflict(_)) | None => return Err(CliError::ImportConflict),
        }
        info!(users = added.len(), "users imported");
        loaded.users.extend(added);
    }
    info!(users = loaded.users.len(), bindings = loaded.bindings.len(), "store loaded");
    Ok((store, loaded))
}

async fn serve(
    config: &Config,
    net: net::Settings,
    (token_key, admin_token): (Private<[u8; 32]>, Private<[u8; 32]>),
    (store, loaded): (Box<dyn Store>, Loaded),
    exit_with_stdin: bool,
) -> Result<(), CliError> {
    let net = Net::bind(net)?;
    let (answers, recorded) = mpsc::unbounded_channel();
    let answer = Box::new(move |ticket, outcome| {
        // The driver has ended: nobody waits for this answer any more.
        let _ended = answers.send((ticket, outcome));
    });
    let (writer, records) = Writer::start(store, store::Limits::default(), answer)
        .map_err(system("the system gives no thread"))?;
    let ledger = Ledger { write: Box::new(move |record| records.submit(record)), recorded };
    let mut log = telemetry::EventLog::default();
    let clerk =
        Clerk::start(config.reports.clone()).map_err(system("the system gives no thread"))?;
    let observers = Observers {
        event: Box::new(move |now: Now, event: &Event| {
            log.log(now, event);
        }),
        report: Box::new(clerk.desk()),
    };
    let stop = net::terminated().map_err(system("the system allows no signal handlers"))?;
    let stdin = stdin_ended(exit_with_stdin).map_err(system("the system gives no thread"))?;
    let stopped = async move {
        tokio::select! {
            () = stop => {}
            Ok(()) = stdin => {}
        }
    };
    // Differs from start to start: std's hash keys are random.
    let seed = RandomState::new().hash_one(std::process::id());
    let door = Door::new(config.door_settings(token_key, seed), loaded, Clock.now());
    let settings = admin::Settings { token: Some(admin_token), ..config.admin.clone() };
    let shelf = Shelf::new(config.reports.directory.clone());
    let admin = admin::start(settings, net.handle(), shelf)?;
    info!(admin = %admin.local_addr(), "the door is open");
    let stopped = net.run(door, ledger, observers, stopped).await;
    admin.stop();
    writer.stop();
    drop(clerk);
    if stopped.writes_unanswered > 0 {
        let writes = stopped.writes_unanswered;
        warn!(writes, "the store had not answered everything; nobody was told that it had");
    }
    info!("the door is closed");
    Ok(())
}

/// Resolves when standard input ends; never, unless asked to watch it.
fn stdin_ended(watch: bool) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, at_end) = oneshot::channel();
    if watch {
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut ignored = [0; 256];
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut ignored).is_ok_and(|length| length > 0) {}
            // The door is stopping already.
            let _stopping = ended.send(());
        })?;
    }
    Ok(at_end)
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> CliError {
    move |source| CliError::System { what, source }
}
