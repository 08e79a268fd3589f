//! Line groups and telephone systems (P4).

use super::*;
use crate::cluster::Ties;
use crate::cluster::document::TelephoneSystem;

fn ties(line_groups: &[&str], reaches: &[&str]) -> Arc<Ties> {
    let names = |names: &[&str]| names.iter().copied().map(Arc::from).collect::<Vec<_>>();
    Arc::new(Ties::configured(names(line_groups), names(reaches)))
}

/// With these telephone systems lost, by its own word.
fn lost(ties: &Arc<Ties>, systems: &[&str]) -> Arc<Ties> {
    let system = |name: &&str| TelephoneSystem { name: (*name).into(), reachable: false };
    Arc::new(ties.told(&systems.iter().map(system).collect::<Vec<_>>(), true))
}

/// A pool of servers with these ties; the first one is down, and one user is at home there.
fn pool(ties: &[Arc<Ties>]) -> (ClusterView, Directory) {
    let servers = ties.iter().enumerate().map(|(n, ties)| ServerView {
        ties: Arc::clone(ties),
        ..server(&format!("ucs{n}"), 100, 10)
    });
    let mut view = view(servers.collect());
    view.servers[0].state = State::Down;
    let mut users = vec![0; ties.len()];
    users[0] = 1;
    (view, directory(&users))
}

/// What the last server of the pool says of the user, and whether batch and single login agree.
fn asked(ties: &[Arc<Ties>]) -> Result<(), Refusal> {
    let (view, directory) = pool(ties);
    let candidates = candidates(UserId(0), &view, &directory, &POLICY);
    let planned = plan(&[UserId(0)], &view, &directory, &POLICY);
    let placed = place(UserId(0), &view, &directory, &POLICY);
    match placed {
        Ok(_) => assert_eq!(planned.moves.len(), 1),
        Err(why) => assert_eq!(planned.unplaced, [(UserId(0), why)]),
    }
    candidates.last().unwrap().1
}

#[test]
fn a_guest_finds_all_line_groups_and_telephone_systems_of_the_home() {
    let home = ties(&["fax", "office"], &["pbx"]);
    let of = |other: Arc<Ties>| asked(&[Arc::clone(&home), other]);
    assert_eq!(of(ties(&["fax", "lab", "office"], &["pbx", "trunk"])), Ok(()));
    assert_eq!(of(ties(&["office"], &["pbx"])), Err(Refusal::LineGroup));
    assert_eq!(
        of(ties(&["fax", "Office"], &["pbx"])),
        Err(Refusal::LineGroup),
        "equal means equal"
    );
    assert_eq!(of(ties(&["fax", "office"], &["trunk"])), Err(Refusal::TelephoneSystem));
    assert_eq!(of(Arc::default()), Ok(()), "who says nothing is not refused for it");
    assert_eq!(asked(&[Arc::default(), home]), Ok(()));
}

#[test]
fn a_server_that_lost_a_telephone_system_takes_those_who_need_it_last_of_all() {
    let well = ties(&[], &["pbx", "trunk"]);
    let without = lost(&well, &["pbx"]);
    let users = [UserId(0), UserId(1), UserId(2)];
    let planned = |home: &Arc<Ties>, degraded: bool, room: u32| {
        let (mut view, mut directory) =
            pool(&[Arc::clone(home), Arc::clone(&well), Arc::clone(&without)]);
        for n in 1..3 {
            directory.insert(user(format!("v{n}"), Some(ServerId(0)))).unwrap();
        }
        view.servers[1].capacity = room;
        if degraded {
            view.servers[1].state = State::Degraded;
        }
        let plan = plan(&users, &view, &directory, &POLICY);
        assert_eq!(plan.unplaced, []);
        let alone = place(UserId(0), &view, &directory, &POLICY).unwrap();
        (
            per_server(&plan, 3),
            alone.0,
            lost_system(directory.get(UserId(0)), ServerId(2), &view).cloned(),
        )
    };
    let pbx = Some(Arc::from("pbx"));
    assert_eq!(planned(&well, false, 10), (vec![0, 3, 0], 1, pbx.clone()));
    assert_eq!(
        planned(&well, true, 10),
        (vec![0, 3, 0], 1, pbx.clone()),
        "degraded, but it telephones"
    );
    assert_eq!(planned(&well, false, 1), (vec![0, 1, 2], 1, pbx.clone()), "better than nowhere");
    assert_eq!(planned(&well, false, 0), (vec![0, 0, 3], 2, pbx));
    // Who does not need it does not care.
    let (spread, _, lost) = planned(&ties(&[], &["trunk"]), false, 10);
    assert_eq!((spread.iter().filter(|users| **users > 0).count(), lost), (2, None));
}

#[test]
fn a_home_that_lost_its_telephone_system_loses_nobody_to_a_rebalance() {
    let well = ties(&[], &["pbx"]);
    let (mut view, _) = pool(&[lost(&well, &["pbx"]), Arc::clone(&well), Arc::clone(&well)]);
    view.servers[0].state = State::Up;
    let even = directory(&[5, 5, 5]);
    assert_eq!(rebalance(&view, &even, &POLICY), [], "that is a mood of the hour");
}

#[test]
fn a_guest_whose_server_fails_goes_home_but_rather_to_where_they_can_telephone() {
    let home = ties(&["office"], &["pbx"]);
    let without = lost(&home, &["pbx"]);
    let (mut view, mut directory) =
        pool(&[without, Arc::clone(&home), Arc::clone(&home), ties(&["lab"], &["pbx"])]);
    directory.relocate(UserId(0), relocation(ServerId(0), ServerId(1)), 8);
    view.servers[0].state = State::Up;
    view.servers[1].state = State::Down;
    let to = |view: &ClusterView| {
        let plan = plan(&[UserId(0)], view, &directory, &POLICY);
        assert_eq!(place(UserId(0), view, &directory, &POLICY), Ok(plan.moves[0].to));
        plan.moves[0].to
    };
    assert_eq!(to(&view), ServerId(2));
    view.servers[2].state = State::Down;
    assert_eq!(to(&view), ServerId(0), "better than nowhere");
    view.servers[2].state = State::Up;
    view.servers[0].ties = home;
    assert_eq!(to(&view), ServerId(0), "where they are at home");
}

#[test]
fn who_leaves_a_server_that_is_well_goes_where_they_can_telephone_or_stays() {
    let well = ties(&[], &["pbx"]);
    let without = lost(&well, &["pbx"]);
    let (mut view, directory) = pool(&[Arc::clone(&well), Arc::clone(&without), well]);
    view.servers[0].state = State::Drain;
    let drained = |view: &ClusterView| plan(&[UserId(0)], view, &directory, &POLICY);
    assert_eq!(drained(&view).moves[0].to, ServerId(2));
    view.servers[2].capacity = 0;
    assert_eq!(drained(&view).unplaced, [(UserId(0), Refusal::Full)]);
    view.servers[2].ties = Arc::clone(&without);
    view.servers[2].capacity = 10;
    assert_eq!(drained(&view).unplaced, [(UserId(0), Refusal::TelephoneSystemLost)]);
    // Nobody is worse off than where nothing is reached.
    view.servers[0].ties = without;
    assert_eq!(drained(&view).unplaced, []);
}

#[test]
fn a_first_home_reaches_what_others_reach() {
    let well = ties(&[], &["pbx"]);
    let without = lost(&well, &["pbx"]);
    let (mut view, directory) = pool(&[well, Arc::clone(&without), without]);
    view.servers[0].state = State::Up;
    for n in 0..20 {
        let home = place_stranger(&format!("new{n}"), &view, &directory, &POLICY);
        assert_eq!(home, Ok(ServerId(0)));
    }
    view.servers[0].state = State::Down;
    assert!(place_stranger("new", &view, &directory, &POLICY).is_ok(), "nobody reaches it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_and_a_rebalance_keep_to_the_ties_and_the_guard_foretells_what_is_left_over(
        pool in proptest::collection::vec((0u32..60, 0u32..60, 0u8..8, 0u8..8, 0u8..4), 2..=8),
    ) {
        let groups = ["fax", "lab", "office"];
        let systems = ["branch", "pbx", "trunk"];
        let some = |names: [&'static str; 3], bits: u8| -> Vec<&'static str> {
            (0..3).filter(|n| bits & (1 << n) != 0).map(|n| names[n]).collect()
        };
        let plain: Vec<(u8, u32, u32)> = pool.iter().map(|it| (100, it.0, it.1)).collect();
        let (mut view, directory) = named(&plain);
        for (server, it) in view.servers.iter_mut().zip(&pool) {
            let configured = ties(&some(groups, it.2), &some(systems, it.3));
            let known: Vec<&str> = some(systems, it.3 & it.4);
            server.ties = lost(&configured, &known);
        }
        // The rule, said another way.
        let may = |view: &ClusterView, home: ServerId, to: ServerId| {
            let (home, to) = (view.server(home), view.server(to));
            let groups = |server: &ServerView| server.ties.line_groups().cloned().collect::<Vec<_>>();
            let (wants, has) = (groups(home), groups(to));
            (has.is_empty() || wants.iter().all(|group| has.contains(group)))
                && home.ties.systems().all(|(system, _)| match to.ties.reaches(system) {
                    None => to.ties.systems().count() == 0,
                    Some(_) => true,
                })
        };
        for planned in rebalance(&view, &directory, &POLICY) {
            prop_assert!(may(&view, planned.from, planned.to));
        }
        let mut worst = 0;
        for lost in view.iter().map(|(id, _)| id) {
            let mut view = view.clone();
            view.servers[lost.index()].state = State::Down;
            let plan = plan(&directory.on_server(lost), &view, &directory, &POLICY);
            for planned in &plan.moves {
                prop_assert!(may(&view, lost, planned.to));
            }
            let room: u64 = view
                .iter()
                .filter(|(id, _)| *id != lost && may(&view, lost, *id))
                .map(|(id, server)| u64::from(server.capacity - directory.assigned(id)))
                .sum();
            let users = u64::from(directory.assigned(lost));
            prop_assert_eq!(plan.moves.len() as u64, users.min(room));
            worst = worst.max(plan.unplaced.len() as u64);
        }
        let guard = one_more_failure(&view, &directory, &POLICY);
        prop_assert_eq!(guard.map_or(0, |shortfall| shortfall.unplaced), worst);
    }
}
