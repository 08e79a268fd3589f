//! Placement as the rules state it, over random pools.

mod ties;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::cluster::{Realms, Version};
use crate::directory::record::RelocationReason;
use crate::directory::{History, Relocation};
use crate::now::Uptime;

const POLICY: Policy = Policy { score_min: 20 };

fn server(name: &str, score: u8, capacity: u32) -> ServerView {
    ServerView {
        name: Arc::from(name),
        state: State::Up,
        score,
        capacity,
        version: Some(Version::FIRST_WITH_DISTRIBUTION),
        site: None,
        ties: Arc::default(),
        realms: Arc::default(),
        failure: None,
        incarnation: 0,
        since: Uptime::ZERO,
        planes: smallvec::SmallVec::new(),
    }
}

fn view(servers: Vec<ServerView>) -> ClusterView {
    ClusterView { servers, suspicion: None }
}

fn user(name: String, home: Option<ServerId>) -> User {
    User {
        name: name.into(),
        aors: smallvec::SmallVec::new(),
        lines: Vec::new(),
        home,
        enabled: true,
        relocation: None,
        epoch: 7,
        left_at: Vec::new(),
        history: History::default(),
    }
}

/// As a failover makes it.
fn relocation(origin: ServerId, target: ServerId) -> Relocation {
    let why = RelocationReason::Failover;
    Relocation { origin, date: SystemTime::UNIX_EPOCH, target, why }
}

/// `users[n]` users at home on server n.
fn directory(users: &[u32]) -> Directory {
    let mut directory = Directory::new(users.len());
    for (home, many) in (0u16..).zip(users) {
        for n in 0..*many {
            directory.insert(user(format!("u{home}-{n}"), Some(ServerId(home)))).unwrap();
        }
    }
    directory
}

/// Plans the users of server 0, which is down.
fn fail_first(view: &mut ClusterView, directory: &Directory) -> Plan {
    view.servers[0].state = State::Down;
    plan(&directory.on_server(ServerId(0)), view, directory, &POLICY)
}

fn carry_out(plan: &Plan, directory: &mut Directory) {
    for planned in &plan.moves {
        let relocation = relocation(directory.get(planned.user).home.unwrap(), planned.to);
        directory.relocate(planned.user, relocation, planned.epoch + 1);
    }
}

fn per_server(plan: &Plan, servers: usize) -> Vec<u32> {
    let mut counts = vec![0; servers];
    for planned in &plan.moves {
        counts[planned.to.index()] += 1;
    }
    counts
}

/// What each server should get in real numbers: in proportion to score × free capacity, never
/// more than is free. Found by raising a common level until everybody is placed.
fn ideal(view: &ClusterView, directory: &Directory, users: f64) -> Vec<f64> {
    let rooms: Vec<(f64, f64)> = view
        .iter()
        .map(|(id, server)| {
            let free = f64::from(server.capacity.saturating_sub(directory.assigned(id)));
            let hosts = server.state == State::Up && server.score >= POLICY.score_min;
            if hosts { (free, f64::from(server.score) * free) } else { (0.0, 0.0) }
        })
        .collect();
    let at = |level: f64| rooms.iter().map(|(free, weight)| free.min(level * weight)).collect();
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let level = (low + high) / 2.0;
        let placed: Vec<f64> = at(level);
        if placed.iter().sum::<f64>() < users { low = level } else { high = level }
    }
    at(high)
}

/// 2 to 12 servers with their scores, and how many users are on each.
fn pools() -> impl Strategy<Value = Vec<(u8, u32, u32)>> {
    proptest::collection::vec((0u8..=100, 0u32..=1000, 0u32..400), 2..=12)
}

fn named(pool: &[(u8, u32, u32)]) -> (ClusterView, Directory) {
    let servers = pool
        .iter()
        .enumerate()
        .map(|(n, (score, spare, users))| server(&format!("ucs{n}"), *score, users + spare));
    let users: Vec<u32> = pool.iter().map(|(_, _, users)| *users).collect();
    (view(servers.collect()), directory(&users))
}

/// Gives everybody of a rebalance their new home.
fn settle(moves: &[Planned], directory: &mut Directory) {
    for planned in moves {
        directory.set_home(planned.user, planned.to, planned.epoch + 1);
    }
}

#[test]
fn a_server_that_joins_gets_its_share_and_nobody_else_moves() {
    let servers = ["ucs0", "ucs1", "ucs2"].map(|name| server(name, 90, 1_000));
    let mut view = view(servers.to_vec());
    let mut directory = directory(&[300, 300, 0]);
    let moves = rebalance(&view, &directory, &POLICY);
    assert_eq!(moves.len(), 200);
    assert!(moves.iter().all(|planned| planned.to == ServerId(2)));
    for from in [ServerId(0), ServerId(1)] {
        assert_eq!(moves.iter().filter(|planned| planned.from == from).count(), 100);
    }
    settle(&moves, &mut directory);
    assert_eq!(rebalance(&view, &directory, &POLICY), [], "once is enough");
    // Load of the hour moves nobody.
    view.servers[0].score = 30;
    assert_eq!(rebalance(&view, &directory, &POLICY), []);
}

#[test]
fn a_rebalance_leaves_out_who_is_away_disabled_or_on_a_server_that_takes_nobody() {
    let servers = ["ucs0", "ucs1", "ucs2"].map(|name| server(name, 90, 1_000));
    let mut view = view(servers.to_vec());
    let mut directory = directory(&[10, 90, 0]);
    let away = directory.by_name("u1-0").unwrap();
    directory.relocate(away, relocation(ServerId(1), ServerId(0)), 8);
    let mut disabled = directory.get(directory.by_name("u1-1").unwrap()).clone();
    disabled.enabled = false;
    directory.replace(directory.by_name("u1-1").unwrap(), disabled).unwrap();
    view.servers[0].state = State::Drain;
    let moves = rebalance(&view, &directory, &POLICY);
    assert_eq!(moves.len(), 44, "half of the 88 that can go");
    for planned in moves {
        assert_eq!((planned.from, planned.to), (ServerId(1), ServerId(2)));
        assert!(!["u1-0", "u1-1"].contains(&&*directory.get(planned.user).name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rebalance_is_the_least_there_is_stays_within_site_and_capacity_and_is_done_once(
        pool in proptest::collection::vec((0u8..=100, 0u32..1000, 0u32..400, 0u8..3), 2..=10),
    ) {
        let plain: Vec<(u8, u32, u32)> = pool.iter().map(|it| (it.0, it.1, it.2)).collect();
        let (mut view, mut directory) = named(&plain);
        for (server, (_, _, _, site)) in view.servers.iter_mut().zip(&pool) {
            server.site = (*site > 0).then(|| Arc::from(format!("site {site}")));
        }
        let moves = rebalance(&view, &directory, &POLICY);
        let hosts = |id: ServerId| view.server(id).score >= POLICY.score_min;
        let gives: Vec<ServerId> = moves.iter().map(|planned| planned.from).collect();
        for planned in &moves {
            prop_assert!(hosts(planned.from) && hosts(planned.to));
            let [from, to] = [planned.from, planned.to].map(|id| view.server(id).site.as_deref());
            prop_assert!(same_site(from, to));
        }
        // The least: within one site's servers nobody both gives and takes.
        let one_site = pool.iter().all(|it| it.3 == 0);
        prop_assert!(!one_site || moves.iter().all(|planned| !gives.contains(&planned.to)));
        settle(&moves, &mut directory);
        for (id, server) in view.iter() {
            prop_assert!(directory.assigned(id) <= server.capacity, "{}", server.name);
        }
        if one_site {
            prop_assert_eq!(rebalance(&view, &directory, &POLICY), vec![]);
            let capacity: u64 = view.iter().filter(|(id, _)| hosts(*id)).map(|(_, it)| u64::from(it.capacity)).sum();
            let users: u64 = view.iter().filter(|(id, _)| hosts(*id)).map(|(id, _)| u64::from(directory.assigned(id))).sum();
            for (id, server) in view.iter().filter(|(id, _)| hosts(*id)) {
                let share = u64::from(server.capacity) as f64 * users as f64 / capacity.max(1) as f64;
                let off = (f64::from(directory.assigned(id)) - share).abs();
                prop_assert!(off < 1.0, "{} has {off} too many or too few", server.name);
            }
        }
    }

    #[test]
    fn every_server_gets_its_share_within_five_per_cent_and_nobody_too_many(
        survivors in proptest::collection::vec((20u8..=100, 1u32..=4000, 0u32..200), 1..=11),
        users in 100u32..5000,
    ) {
        let mut pool = vec![(100, 0, users)];
        pool.extend(survivors);
        let (mut view, directory) = named(&pool);
        let plan = fail_first(&mut view, &directory);
        let room: u32 = pool[1..].iter().map(|(_, spare, _)| spare).sum();
        prop_assert_eq!(plan.moves.len(), users.min(room) as usize);
        prop_assert_eq!(plan.unplaced.len(), users.saturating_sub(room) as usize);
        let ideal = ideal(&view, &directory, f64::from(users));
        for ((got, ideal), (_, spare, _)) in
            per_server(&plan, pool.len()).into_iter().zip(ideal).zip(&pool)
        {
            prop_assert!(got <= *spare);
            let off = (f64::from(got) - ideal).abs();
            prop_assert!(off <= 1.0 + 1e-6 || off <= 0.05 * ideal, "{} of {}", got, ideal);
        }
    }

    #[test]
    fn users_stay_unplaced_only_when_no_distribution_could_place_more(
        survivors in proptest::collection::vec((0u8..=100, 0u32..200, 0usize..4), 1..=8),
        homes in proptest::collection::vec((0usize..4, 0u32..200), 1..=5),
    ) {
        let sites = [None, Some("a"), Some("b"), Some("c")].map(|site| site.map(Arc::<str>::from));
        // The homes failed; their users are bound to the homes' sites.
        let mut servers = Vec::new();
        for (n, (site, _)) in homes.iter().enumerate() {
            let site = sites[*site].clone();
            servers.push(ServerView {
                site, state: State::Down, ..server(&format!("gone{n}"), 0, 1000)
            });
        }
        for (n, (score, free, site)) in survivors.iter().enumerate() {
            let site = sites[*site].clone();
            servers.push(ServerView { site, ..server(&format!("ucs{n}"), *score, *free) });
        }
        let view = view(servers);
        let users: Vec<u32> = homes.iter().map(|(_, users)| *users).collect();
        let directory = directory(&users);
        let ids: Vec<UserId> = directory.iter().map(|(id, _)| id).collect();
        let plan = plan(&ids, &view, &directory, &POLICY);

        // Hall: what can be placed at most is the narrowest cut, over all sets of homes, of the
        // users outside the set and the room that those inside can reach.
        let all: u32 = users.iter().sum();
        let most = (0..1u32 << homes.len()).map(|set| {
            let inside = |n: &usize| set & (1 << n) != 0;
            let outside: u32 = (0..homes.len()).filter(|n| !inside(n)).map(|n| users[n]).sum();
            let reached: u32 = survivors.iter()
                .filter(|(score, _, site)| *score >= POLICY.score_min && (0..homes.len())
                    .any(|n| inside(&n) && (*site == 0 || homes[n].0 == 0 || *site == homes[n].0)))
                .map(|(_, free, _)| free)
                .sum();
            outside + reached
        }).min().unwrap();
        prop_assert_eq!(plan.moves.len() as u32, most);
        prop_assert_eq!(plan.unplaced.len() as u32, all - most);
        for (got, server) in per_server(&plan, view.servers.len()).into_iter().zip(&view.servers) {
            prop_assert!(got <= server.capacity);
        }
        for planned in &plan.moves {
            let sites = (&view.server(planned.from).site, &view.server(planned.to).site);
            prop_assert!(matches!(sites, (None, _) | (_, None)) || sites.0 == sites.1);
        }
    }

    #[test]
    fn a_plan_does_not_depend_on_any_order(pool in pools(), seed: u64) {
        let (mut view, directory) = named(&pool);
        view.servers[0].state = State::Down;
        let users = directory.on_server(ServerId(0));
        let by_name = |plan: &Plan, view: &ClusterView, directory: &Directory| {
            let name = |id| Arc::clone(&directory.get(id).name);
            let moves: Vec<_> = plan.moves.iter()
                .map(|planned| (name(planned.user), Arc::clone(&view.server(planned.to).name)))
                .collect();
            let unplaced: Vec<_> =
                plan.unplaced.iter().map(|(user, why)| (name(*user), *why)).collect();
            (moves, unplaced)
        };
        let first = by_name(&plan(&users, &view, &directory, &POLICY), &view, &directory);

        let mut rng = fastrand::Rng::with_seed(seed);
        let mut order: Vec<usize> = (0..pool.len()).collect();
        rng.shuffle(&mut order);
        let mut other_view = view.clone();
        let mut place = vec![ServerId(0); pool.len()];
        for (new, old) in order.iter().enumerate() {
            other_view.servers[new] = view.servers[*old].clone();
            place[*old] = ServerId(new as u16);
        }
        let mut people: Vec<User> = directory.iter().map(|(_, user)| user.clone()).collect();
        rng.shuffle(&mut people);
        let mut other_directory = Directory::new(pool.len());
        for mut user in people {
            user.home = user.home.map(|home| place[home.index()]);
            other_directory.insert(user).unwrap();
        }
        let mut users = other_directory.on_server(place[0]);
        users.extend_from_within(..);
        rng.shuffle(&mut users);
        let second = plan(&users, &other_view, &other_directory, &POLICY);
        prop_assert_eq!(first, by_name(&second, &other_view, &other_directory));
    }

    #[test]
    fn a_second_failure_moves_only_those_it_hits(pool in pools(), second in 1usize..12) {
        let (mut view, mut directory) = named(&pool);
        let first = fail_first(&mut view, &directory);
        carry_out(&first, &mut directory);
        let second = ServerId((second % pool.len()) as u16);
        view.servers[second.index()].state = State::Down;
        let before: Vec<_> = directory.iter().map(|(id, user)| (id, user.current())).collect();
        let next = plan(&directory.on_server(second), &view, &directory, &POLICY);
        carry_out(&next, &mut directory);
        for (id, current) in before {
            let now = directory.get(id).current();
            if current == Some(second) {
                let unplaced = next.unplaced.iter().any(|(user, _)| *user == id);
                prop_assert_eq!(now == current, unplaced);
            } else {
                prop_assert_eq!(now, current);
            }
        }
        for (id, server) in view.iter().filter(|(_, server)| server.state == State::Up) {
            prop_assert!(directory.assigned(id) <= server.capacity);
        }
    }

    #[test]
    fn the_guard_foretells_what_a_plan_leaves_over(pool in pools()) {
        let (view, directory) = named(&pool);
        let worst = view.iter().map(|(lost, _)| {
            let mut view = view.clone();
            view.servers[lost.index()].state = State::Down;
            let users = directory.on_server(lost);
            plan(&users, &view, &directory, &POLICY).unplaced.len() as u64
        }).max().unwrap();
        let guard = one_more_failure(&view, &directory, &POLICY);
        prop_assert_eq!(guard.map_or(0, |shortfall| shortfall.unplaced), worst);
    }
}

#[test]
fn a_plan_is_in_canonical_order_and_carries_epochs() {
    let (mut view, directory) = named(&[(100, 0, 30), (100, 40, 0), (50, 40, 0)]);
    let plan = fail_first(&mut view, &directory);
    let names: Vec<&str> =
        plan.moves.iter().map(|planned| &*directory.get(planned.user).name).collect();
    assert!(names.is_sorted());
    assert_eq!(names.len(), 30);
    assert!(plan.moves.iter().all(|planned| planned.epoch == 7 && planned.from == ServerId(0)));
    assert_eq!(per_server(&plan, 3), [0, 20, 10]);
}

#[test]
fn most_users_get_their_favourite() {
    // The names in a plan follow the users' own ranking; quotas only trim it.
    let (mut view, directory) =
        named(&[(100, 0, 3000), (90, 2000, 0), (60, 3000, 0), (30, 900, 0)]);
    let plan = fail_first(&mut view, &directory);
    let favourites = plan
        .moves
        .iter()
        .filter(|planned| place(planned.user, &view, &directory, &POLICY) == Ok(planned.to))
        .count();
    assert!(favourites > 2800, "{favourites}");
}

#[test]
fn disabled_users_and_users_without_a_server_are_left_out() {
    let mut directory = directory(&[2, 0]);
    let mut gone = directory.get(UserId(0)).clone();
    gone.enabled = false;
    directory.replace(UserId(0), gone).unwrap();
    let nowhere = directory.insert(user("new".to_owned(), None)).unwrap();
    let mut view = view(vec![server("ucs0", 100, 10), server("ucs1", 100, 10)]);
    view.servers[0].state = State::Down;
    let plan = plan(&[UserId(0), UserId(1), nowhere], &view, &directory, &POLICY);
    assert_eq!(plan.moves.len(), 1);
    assert_eq!((plan.moves[0].user, plan.unplaced.len()), (UserId(1), 0));
}

#[test]
fn guests_of_a_failed_server_go_home_if_home_serves_again() {
    // ucs1 hosts a guest from ucs0; ucs0 is back, with an old version and a low score.
    let mut directory = directory(&[1, 0, 0]);
    directory.relocate(UserId(0), relocation(ServerId(0), ServerId(1)), 8);
    let mut view = view(vec![server("ucs0", 5, 1), server("ucs1", 100, 9), server("ucs2", 100, 9)]);
    view.servers[0].version = None;
    view.servers[1].state = State::Down;
    let to = |view: &ClusterView| {
        let plan = plan(&[UserId(0)], view, &directory, &POLICY);
        assert_eq!(place(UserId(0), view, &directory, &POLICY), Ok(plan.moves[0].to));
        plan.moves[0].to
    };
    assert_eq!(to(&view), ServerId(0));
    view.servers[0].state = State::Probation;
    assert_eq!(to(&view), ServerId(2));
}

#[test]
fn every_refusal_has_its_cause_and_the_closest_is_reported() {
    let directory = directory(&[1, 0]);
    let all = |change: &dyn Fn(&mut ServerView)| {
        let mut home = server("ucs0", 100, 10);
        home.state = State::Down;
        home.site = Some(Arc::from("here"));
        home.realms = Arc::new(Realms::configured(Some("ours".into())));
        let mut other = server("ucs1", 100, 10);
        change(&mut other);
        let view = view(vec![home, other]);
        let candidates = candidates(UserId(0), &view, &directory, &POLICY);
        assert_eq!(candidates[0], (ServerId(0), Err(Refusal::Current)));
        let planned = plan(&[UserId(0)], &view, &directory, &POLICY);
        match candidates[1].1 {
            Ok(()) => {
                assert_eq!(place(UserId(0), &view, &directory, &POLICY), Ok(ServerId(1)));
                assert_eq!(planned.moves.len(), 1);
            }
            Err(why) => {
                assert_eq!(place(UserId(0), &view, &directory, &POLICY), Err(why));
                assert_eq!(planned.unplaced, [(UserId(0), why)]);
            }
        }
        candidates[1].1
    };
    assert_eq!(all(&|_| ()), Ok(()));
    for state in State::ALL {
        let takes = if state.takes_strangers() { Ok(()) } else { Err(Refusal::State) };
        assert_eq!(all(&|server| server.state = state), takes);
    }
    assert_eq!(all(&|server| server.version = None), Err(Refusal::Version));
    assert_eq!(all(&|server| server.version = "2602.9".parse().ok()), Err(Refusal::Version));
    assert_eq!(all(&|server| server.score = 19), Err(Refusal::Score));
    assert_eq!(all(&|server| server.score = 20), Ok(()));
    assert_eq!(all(&|server| server.site = Some(Arc::from("there"))), Err(Refusal::Site));
    assert_eq!(all(&|server| server.site = Some(Arc::from("here"))), Ok(()));
    let realm = |realm: &str| Arc::new(Realms::configured(Some(realm.into())));
    assert_eq!(all(&|server| server.realms = realm("theirs")), Err(Refusal::Realm));
    assert_eq!(all(&|server| server.realms = realm("ours")), Ok(()));
    assert_eq!(all(&|server| server.capacity = 0), Err(Refusal::Full));
}

#[test]
fn a_batch_leaves_out_servers_of_another_realm_for_those_only_whose_home_it_concerns() {
    let realm = |realm: &str| Arc::new(Realms::configured(Some(realm.into())));
    let directory = directory(&[40, 40, 0, 0]);
    let mut view = view((0..4).map(|n| server(&format!("ucs{n}"), 100, 100)).collect());
    for (server, realms) in view.servers.iter_mut().zip(["a", "b", "a", "b"]) {
        server.realms = realm(realms);
    }
    for server in &mut view.servers[..2] {
        server.state = State::Down;
    }
    let users: Vec<UserId> = directory.iter().map(|(id, _)| id).collect();
    let plan = plan(&users, &view, &directory, &POLICY);
    assert_eq!((plan.moves.len(), plan.unplaced.len()), (80, 0));
    for planned in &plan.moves {
        assert_eq!(planned.to.0, planned.from.0 + 2, "{planned:?}");
        let user = directory.get(planned.user);
        assert!(!is_of_another_realm(user, planned.to, &view));
        assert!(is_of_another_realm(user, ServerId(3 - planned.from.0), &view));
    }
}

#[test]
fn an_old_server_may_become_a_first_home_but_no_backup() {
    let mut directory = directory(&[1, 0]);
    let new = directory.insert(user("new".to_owned(), None)).unwrap();
    let mut view = view(vec![server("ucs0", 100, 1), server("ucs1", 100, 10)]);
    view.servers[1].version = "2510.0".parse().ok();
    assert_eq!(place(new, &view, &directory, &POLICY), Ok(ServerId(1)));
    view.servers[0].state = State::Down;
    assert_eq!(place(UserId(0), &view, &directory, &POLICY), Err(Refusal::Version));
}

#[test]
fn degraded_servers_take_strangers_only_when_the_others_are_full() {
    let (mut view, directory) = named(&[(100, 0, 50), (100, 100, 0), (40, 30, 0)]);
    view.servers[1].state = State::Degraded;
    let plan = fail_first(&mut view, &directory);
    assert_eq!(per_server(&plan, 3), [0, 20, 30]);
    let alone = place(plan.moves[0].user, &view, &directory, &POLICY);
    assert_eq!(alone, Ok(ServerId(2)));
}

#[test]
fn users_who_leave_healthy_servers_do_not_come_back_to_where_they_were() {
    // A batch off two servers that both take guests: each excludes its own only.
    let (view, directory) = named(&[(100, 50, 10), (100, 50, 10)]);
    let ids: Vec<UserId> = directory.iter().map(|(id, _)| id).collect();
    let plan = plan(&ids, &view, &directory, &POLICY);
    assert_eq!(plan.moves.len(), 20);
    assert!(plan.moves.iter().all(|planned| planned.from != planned.to));
}

#[test]
fn the_guard_is_silent_while_any_single_loss_fits() {
    let (mut view, directory) = named(&[(100, 30, 30), (100, 30, 30), (100, 30, 30)]);
    assert_eq!(one_more_failure(&view, &directory, &POLICY), None);
    view.servers[2].capacity = 30;
    view.servers[0].state = State::Down;
    assert_eq!(
        one_more_failure(&view, &directory, &POLICY),
        Some(Shortfall { lost: ServerId(1), users: 30, unplaced: 30 })
    );
}

#[test]
fn a_place_is_not_given_away_while_a_move_to_it_is_being_recorded() {
    let mut directory = directory(&[2, 0]);
    let mut view = view(vec![server("ucs0", 100, 2), server("ucs1", 100, 1)]);
    view.servers[0].state = State::Down;
    let place = |directory: &Directory| place(UserId(1), &view, directory, &POLICY);
    directory.reserve(ServerId(1));
    assert_eq!(place(&directory), Err(Refusal::Full));
    assert_eq!(plan(&[UserId(1)], &view, &directory, &POLICY).moves, []);
    directory.release(ServerId(1));
    assert_eq!(place(&directory), Ok(ServerId(1)));
}

#[test]
fn an_empty_pool_places_nobody() {
    let mut directory = Directory::new(0);
    let new = directory.insert(user("new".to_owned(), None)).unwrap();
    let empty = view(Vec::new());
    assert!(place(new, &empty, &directory, &POLICY).is_err());
    assert_eq!(plan(&[new], &empty, &directory, &POLICY), Plan::default());
    assert_eq!(one_more_failure(&empty, &directory, &POLICY), None);
}

#[test]
fn ten_servers_share_a_large_failure() {
    let mut pool = vec![(100, 0, 20_000)];
    pool.extend((1..=10).map(|n| (10 * n, 3000, 0)));
    let (mut view, directory) =
        named(&pool.iter().map(|(s, c, u)| (*s, *c, *u)).collect::<Vec<_>>());
    let plan = fail_first(&mut view, &directory);
    let counts: BTreeMap<usize, u32> = per_server(&plan, 11).into_iter().enumerate().collect();
    assert_eq!(plan.moves.len(), 20_000);
    assert_eq!(counts[&1], 0, "below the minimum score");
    assert_eq!(counts[&10], 3000, "capped");
}
