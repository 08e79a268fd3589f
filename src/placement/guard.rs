//! [`one_more_failure`]: would the pool survive the loss of one more server (P5)?

use std::time::SystemTime;

use crate::cluster::{ClusterView, ServerId, State};
use crate::directory::record::RelocationReason;
use crate::directory::{Directory, Relocation, User};
use crate::placement::Policy;
use crate::placement::batch::Batch;

/// What would happen if a server were lost now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Which server.
    pub lost: ServerId,
    /// Users who would have to leave it.
    pub users: u64,
    /// How many of them would find no place.
    pub unplaced: u64,
}

/// The server whose loss would leave the most users without a place; `None` when the loss of any
/// single server fits.
///
/// Takes time in proportion to servers² × pairs of home and current server, however many users there
/// are: for a gauge or an alarm, not for a packet.
pub fn one_more_failure(
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> Option<Shortfall> {
    // Users of the same current server and home have the same choice; one stands for all.
    let alike: Vec<(User, u32)> =
        directory.served().map(|(current, home, users)| (somebody(current, home), users)).collect();
    view.iter()
        // Nobody would be moved off one under maintenance.
        .filter(|(_, server)| server.state != State::Maintenance && server.serves_its_users())
        .map(|(lost, _)| {
            let guests = alike.iter().filter(|(user, _)| user.current() == Some(lost));
            // What the lost one reaches is not reached by it any longer.
            let mut view = view.clone();
            view.servers[lost.index()].state = State::Down;
            lose(
                lost,
                guests.map(|(user, many)| (user, *many)),
                Batch::new(&view, directory, policy),
            )
        })
        .filter(|shortfall| shortfall.unplaced > 0)
        .max_by(|a, b| {
            let name = |shortfall: &Shortfall| &view.server(shortfall.lost).name;
            a.unplaced.cmp(&b.unplaced).then_with(|| name(b).cmp(name(a)))
        })
}

/// A user of whom nothing is known but this.
fn somebody(current: ServerId, home: Option<ServerId>) -> User {
    let relocation = (home != Some(current)).then_some(Relocation {
        origin: home.unwrap_or(current),
        date: SystemTime::UNIX_EPOCH,
        target: current,
        why: RelocationReason::Failover,
    });
    User { home, relocation, ..User::stranger("") }
}

/// Plans the loss of one server in numbers only.
fn lose<'v>(
    lost: ServerId,
    leaving: impl Iterator<Item = (&'v User, u32)>,
    mut batch: Batch<'_>,
) -> Shortfall {
    let (mut users, mut placed) = (0, 0);
    for (user, many) in leaving {
        let at_home = batch.go_home(user, many).map_or(0, |(_, taken)| taken);
        batch.ask(user, Some(lost), many - at_home);
        users += u64::from(many);
        placed += u64::from(at_home);
    }
    placed += batch.seats().iter().flatten().sum::<u64>();
    Shortfall { lost, users, unplaced: users - placed }
}
