//! Leases end with their process, with a stale beat, or when given back.

use std::process::Command;

use starling_cache::{ActionKey, Digest, Lease, LeaseOutcome, Liveness, Owner, Store};

use crate::support::{Space, tamper};

const STALE: f64 = 60.0;

fn key() -> ActionKey {
    ActionKey(Digest::of(b"action"))
}

fn take(space: &Space, owner: &Owner, now: f64) -> LeaseOutcome {
    space.store.try_lease(&key(), owner, now, STALE).unwrap()
}

fn held(outcome: LeaseOutcome) -> Lease {
    match outcome {
        LeaseOutcome::Held(lease) => lease,
        LeaseOutcome::Busy(holder) => panic!("busy: {holder:?}"),
    }
}

fn is_busy(outcome: &LeaseOutcome) -> bool {
    matches!(outcome, LeaseOutcome::Busy(_))
}

/// A process of a host that we know nothing of.
fn far_away() -> Owner {
    Owner {
        host: "far".into(),
        boot: "away".into(),
        ..Owner::current()
    }
}

#[test]
fn a_lease_is_exclusive_until_it_is_given_back() {
    let space = Space::new();
    let me = Owner::current();
    assert_eq!(space.store.lease_holder(&key()).unwrap(), None);
    let lease = held(take(&space, &me, 0.0));
    assert_eq!(lease.n, 1);
    // However long ago: the process lives.
    assert!(is_busy(&take(&space, &me, 1e9)));
    let holder = space.store.lease_holder(&key()).unwrap().unwrap();
    assert_eq!(
        (holder.owner, holder.liveness),
        (Some(me.clone()), Liveness::Alive)
    );
    space.store.release_lease(&lease).unwrap();
    assert_eq!(space.store.lease_holder(&key()).unwrap(), None);
    assert_eq!(held(take(&space, &me, 0.0)).n, 2);
}

#[test]
fn a_lease_ends_with_its_process_at_once() {
    let space = Space::new();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    held(take(&space, &Owner::of_process(child.id()).unwrap(), 0.0));
    assert!(is_busy(&take(&space, &Owner::current(), 0.0)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(held(take(&space, &Owner::current(), 0.0)).n, 2);
}

#[test]
fn a_far_holder_lives_by_its_beat_and_clocks_may_jump() {
    let space = Space::new();
    let lease = held(take(&space, &far_away(), 1000.0));
    assert!(is_busy(&take(&space, &Owner::current(), 1000.0 + STALE)));
    space.store.beat_lease(&lease, 1100.0).unwrap();
    assert!(is_busy(&take(&space, &Owner::current(), 1100.0 + STALE)));
    // A beat from a far future comes from a clock that jumped; it cannot hold for ever.
    space.store.beat_lease(&lease, 9e9).unwrap();
    let lease = held(take(&space, &far_away(), 1200.0));
    assert_eq!(lease.n, 2);
    assert_eq!(held(take(&space, &Owner::current(), 1201.0 + STALE)).n, 3);
}

#[test]
fn a_damaged_lease_is_free() {
    let space = Space::new();
    held(take(&space, &Owner::current(), 0.0));
    let path = space.store.root().join(format!("leases/{}/1", key()));
    tamper(&path, Vec::clear);
    assert_eq!(held(take(&space, &Owner::current(), 0.0)).n, 2);
}

#[test]
fn of_many_one_gets_it() {
    for _ in 0..20 {
        let space = Space::new();
        let me = Owner::current();
        let gone = Owner {
            start: me.start + 1,
            ..me.clone()
        };
        held(take(&space, &gone, 0.0));
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| take(&space, &me, 0.0)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let winners = outcomes.iter().filter(|outcome| !is_busy(outcome)).count();
        assert_eq!(winners, 1, "{outcomes:?}");
    }
}
