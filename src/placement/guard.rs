//! [`one_more_failure`]: would the pool survive the loss of one more server (P5)?

use std::collections::BTreeMap;

use crate::cluster::{ClusterView, ServerId, State};
use crate::directory::{Directory, User};
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
/// Reads every user once: for a gauge or an alarm, not for a packet.
pub fn one_more_failure(
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> Option<Shortfall> {
    // Users of the same current server and home have the same choice; one stands for all.
    let mut alike: BTreeMap<(ServerId, Option<ServerId>), (&User, u32)> = BTreeMap::new();
    for (_, user) in directory.iter().filter(|(_, user)| user.enabled) {
        if let Some(current) = user.current() {
            alike.entry((current, user.home)).or_insert((user, 0)).1 += 1;
        }
    }
    view.iter()
        // Nobody would be moved off one under maintenance.
        .filter(|(_, server)| server.state != State::Maintenance && server.serves_its_users())
        .map(|(lost, _)| {
            let guests =
                alike.range((lost, None)..).take_while(|((current, _), _)| *current == lost);
            // What the lost one reaches is not reached by it any longer.
            let mut view = view.clone();
            view.servers[lost.index()].state = State::Down;
            lose(lost, guests.map(|(_, alike)| *alike), Batch::new(&view, directory, policy))
        })
        .filter(|shortfall| shortfall.unplaced > 0)
        .max_by(|a, b| {
            let name = |shortfall: &Shortfall| &view.server(shortfall.lost).name;
            a.unplaced.cmp(&b.unplaced).then_with(|| name(b).cmp(name(a)))
        })
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
