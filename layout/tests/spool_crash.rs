//! A spool on the simulated disk: the machine stops at every single write of accepting, rewriting and finishing messages. Whatever the
//! disk then holds, an accepted message is there whole or was finished, one that was never accepted is never half delivered, and the
//! next operation works.

#![allow(clippy::unwrap_used)]

use layout::disk::sim::{Crash, Failure, SimDisk};
use layout::disk::{Disk as _, SyncSet};
use layout::mbx::compose::Source;
use layout::name::SpoolId;
use layout::path::TreePath;
use layout::root::Root;
use layout::spool::id::{IdSource, ItemName, Origin, Role};
use layout::spool::qfile::{Envelope, Fields, Recipient};
use layout::spool::store::{Body, Claim, SpoolError, State, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

type Outcome = Result<(), SpoolError>;

fn store_on(disk: &SimDisk) -> Store {
    Store::new(&Root::new(Arc::new(disk.clone()), Path::new("/mail"))).unwrap()
}

fn prepared() -> SimDisk {
    let disk = SimDisk::new();
    disk.seed(&TreePath::operator(Path::new("/mail/registry.ini")), b"");
    store_on(&disk);
    // The directory itself was made long ago.
    disk.sync_dir(&TreePath::base_of(Path::new("/mail"))).unwrap();
    disk
}

fn name(number: u64) -> ItemName {
    ItemName::new(SpoolId(number), Origin::Mail)
}

fn text(number: u64) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\n{}\r\n", "a line of text\r\n".repeat(20)).into_bytes()
}

fn recipients(number: u64) -> Vec<String> {
    (0..3).map(|n| format!("r{n}@{number}.example")).collect()
}

fn envelope(number: u64) -> Envelope {
    Envelope::new(&Fields {
        data: format!(r"C:\IMail\spool\{}", name(number).file(Role::Data)),
        host: "example.com".into(),
        sender: "s@example.com".into(),
        recipients: recipients(number).iter().map(|address| Recipient::new(address)).collect(),
        ..Fields::default()
    })
}

/// What the outside world was told.
#[derive(Default)]
struct Told {
    /// Message to the recipients that are certainly done.
    accepted: BTreeMap<u64, BTreeSet<String>>,
    attempted: BTreeSet<u64>,
    finishing: BTreeSet<u64>,
    finished: BTreeSet<u64>,
}

fn bytes(number: u64) -> Body {
    Body::Copy(Source::Bytes(text(number).into()))
}

fn accept(store: &Store, told: &mut Told, all: Vec<(u64, Body)>) -> Outcome {
    told.attempted.extend(all.iter().map(|(number, _)| *number));
    let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
    let prepared: Result<Vec<_>, _> =
        all.into_iter().map(|(number, body)| store.prepare(&name(number), body, &envelope(number))).collect();
    store.commit(prepared?)?;
    told.accepted.extend(numbers.into_iter().map(|number| (number, BTreeSet::new())));
    Ok(())
}

/// One recipient was served.
fn serve_first(claim: &mut Claim, told: &mut Told, number: u64) -> Outcome {
    let loaded = claim.load()?;
    let mut envelope = loaded.envelope;
    envelope.retain_recipients(|index, _| index != 0);
    envelope.set_tries(1);
    claim.update(&envelope)?;
    told.accepted.get_mut(&number).unwrap().insert(recipients(number)[0].clone());
    Ok(())
}

fn finish(claim: Claim, told: &mut Told, number: u64) -> Outcome {
    told.finishing.insert(number);
    claim.finish()?;
    told.finished.insert(number);
    Ok(())
}

fn script(disk: &SimDisk, told: &mut Told) -> Outcome {
    let store = store_on(disk);
    accept(&store, told, vec![(1, bytes(1))])?;
    // Written while it arrives, accepted together with another one.
    told.attempted.insert(2);
    let mut incoming = store.incoming(name(2))?;
    for piece in text(2).chunks(100) {
        incoming.write(piece)?;
    }
    accept(&store, told, vec![(2, Body::Arrived(incoming)), (3, bytes(3))])?;
    // A session that breaks off, and a message that is refused.
    told.attempted.extend([4, 5]);
    let mut incoming = store.incoming(name(4))?;
    incoming.write(b"Subject: ")?;
    drop(incoming);
    drop(store.prepare(&name(5), bytes(5), &envelope(5))?);
    // Partly delivered, then done.
    let mut claim = store.claim(&name(1))?;
    serve_first(&mut claim, told, 1)?;
    finish(claim, told, 1)?;
    serve_first(&mut store.claim(&name(2))?, told, 2)?;
    finish(store.claim(&name(2))?, told, 2)?;
    accept(&store, told, vec![(6, bytes(6))])
}

fn check(disk: &SimDisk, told: &Told, what: &str) {
    let store = store_on(disk);
    let listing = store.scan().unwrap();
    let mut waiting = BTreeSet::new();
    for item in &listing.items {
        let number = item.name.id().0;
        assert!(told.attempted.contains(&number), "{what}: {number} from nowhere");
        if !matches!(item.state, State::Waiting | State::Claimed) {
            continue;
        }
        let loaded = store.claim(&item.name).unwrap().load().unwrap();
        // Whoever finds it waiting finds it whole.
        let body = loaded.body.unwrap();
        assert!(body.read(0, 1 << 20).unwrap() == text(number), "{what}: {number} is torn");
        let left: Vec<String> = loaded.envelope.recipients().into_iter().map(|r| r.address).collect();
        let all = recipients(number);
        assert!(left == all || left == all[1..], "{what}: {number} for {left:?}");
        assert_eq!(loaded.envelope.sender(), "s@example.com");
        waiting.insert(number);
        if let Some(served) = told.accepted.get(&number) {
            assert!(left.iter().all(|address| !served.contains(address)), "{what}: {number} twice");
        }
    }
    for number in told.accepted.keys() {
        assert!(waiting.contains(number) || told.finishing.contains(number), "{what}: {number} is lost");
    }
    // Everything that waits can be delivered and removed, and a new one accepted.
    for number in &waiting {
        let mut claim = store.claim(&name(*number)).unwrap();
        let mut envelope = claim.load().unwrap().envelope;
        envelope.retain_recipients(|_, _| false);
        claim.update(&envelope).unwrap();
        claim.finish().unwrap();
    }
    accept(&store, &mut Told::default(), vec![(9, bytes(9))]).unwrap();
    let again = store.scan().unwrap();
    let queued = |state| matches!(state, State::Waiting | State::Claimed);
    let left: Vec<u64> =
        again.items.iter().filter(|item| queued(item.state)).map(|item| item.name.id().0).collect();
    assert_eq!(left, [9], "{what}");
    store.sweep(&again);
    assert!(store.scan().unwrap().left_over.is_empty(), "{what}");
}

#[test]
fn crashes_at_every_write() {
    for failure in [Failure::Crash, Failure::TornCrash] {
        for n in 1.. {
            let disk = prepared();
            let mut told = Told::default();
            disk.fail_at(n, failure);
            let done = script(&disk, &mut told).is_ok();
            let mut crashes = vec![Crash::Kill, Crash::PowerStrict];
            crashes.extend((0..16).map(|seed| Crash::PowerMixed(n * 100 + seed)));
            for crash in crashes {
                check(&disk.after(crash), &told, &format!("{failure:?} at {n}, {crash:?}"));
            }
            if done {
                assert!(n > 50, "the script has more writes than {n}");
                break;
            }
            assert!(disk.crashed(), "operation {n}: {failure:?}");
        }
    }
}

#[test]
fn a_full_disk_or_a_failing_one() {
    for failure in [Failure::Full, Failure::Error] {
        for n in 1..80 {
            let disk = prepared();
            let mut told = Told::default();
            disk.fail_at(n, failure);
            let _ = script(&disk, &mut told);
            disk.heal();
            for crash in [Crash::Kill, Crash::PowerStrict] {
                check(&disk.after(crash), &told, &format!("{failure:?} at {n}, {crash:?} later"));
            }
            check(&disk, &told, &format!("{failure:?} at {n}, going on"));
        }
    }
}

#[test]
fn what_was_refused_leaves_nothing() {
    let disk = prepared();
    let store = store_on(&disk);
    drop(store.incoming(name(1)).unwrap());
    drop(store.prepare(&name(2), bytes(2), &envelope(2)).unwrap());
    // An id that is in use is refused, and what it is in use for stays.
    accept(&store, &mut Told::default(), vec![(3, bytes(3))]).unwrap();
    disk.seed(&store.path(Role::Arriving, &name(4)), b"foreign");
    for taken in [3, 4] {
        assert!(store.prepare(&name(taken), bytes(taken), &envelope(taken)).is_err());
    }
    assert_eq!(disk.content(&store.path(Role::Arriving, &name(4))).unwrap(), b"foreign");
    let items = store.scan().unwrap().items;
    let states: Vec<_> = items.iter().map(|item| (item.name.id().0, item.state)).collect();
    assert_eq!(states, [(3, State::Waiting), (4, State::ArrivingEnvelope)]);
    let prepared = store.prepare(&name(5), bytes(5), &envelope(5)).unwrap();
    let mut all = vec![prepared];
    all[0].publish().unwrap();
    all.remove(0).withdraw().unwrap();
    assert_eq!(store.scan().unwrap().items.len(), 2);
}

#[test]
fn messages_that_wait_together_share_their_syncs() {
    let disk = prepared();
    let store = store_on(&disk);
    let before = disk.syncs();
    let mut all: Vec<_> =
        (1..=50).map(|n| store.prepare(&name(n), bytes(n), &envelope(n)).unwrap()).collect();
    let mut set = SyncSet::default();
    all.iter().for_each(|prepared| prepared.files(&mut set));
    set.flush(&disk).unwrap();
    all.iter_mut().for_each(|prepared| prepared.publish().unwrap());
    let mut set = SyncSet::default();
    set.dir(store.dir().clone());
    set.flush(&disk).unwrap();
    assert_eq!(disk.syncs() - before, 2);
    drop(all);
    let items = store_on(&disk.after(Crash::PowerStrict)).scan().unwrap().items;
    assert_eq!(items.iter().filter(|item| item.state == State::Waiting).count(), 50);
}

#[test]
fn one_body_for_many_envelopes() {
    let disk = prepared();
    let store = store_on(&disk);
    let mut told = Told::default();
    accept(&store, &mut told, vec![(1, bytes(1))]).unwrap();
    accept(&store, &mut told, vec![(2, Body::Same(name(1))), (3, Body::Same(name(1)))]).unwrap();
    store.claim(&name(1)).unwrap().finish().unwrap();
    store.claim(&name(2)).unwrap().finish().unwrap();
    let loaded = store.claim(&name(3)).unwrap().load().unwrap();
    assert_eq!(loaded.body.unwrap().read(0, 1 << 20).unwrap(), text(1));
}

#[test]
fn a_claim_keeps_others_out() {
    let disk = prepared();
    let store = store_on(&disk);
    accept(&store, &mut Told::default(), vec![(1, bytes(1))]).unwrap();
    let mut claim = store.claim(&name(1)).unwrap();
    let other = store_on(&disk);
    assert!(matches!(other.claim(&name(1)), Err(SpoolError::Busy(_))));
    assert!(matches!(other.hold(&name(1)), Err(SpoolError::Busy(_))));
    assert_eq!(other.scan().unwrap().items[0].state, State::Claimed);
    let envelope = claim.load().unwrap().envelope;
    claim.update(&envelope).unwrap();
    assert!(matches!(other.claim(&name(1)), Err(SpoolError::Busy(_))));
    // An edit by hand is not overwritten.
    let queue = store.path(Role::Queued, &name(1));
    disk.seed(&queue, b"QD1.SMD\r\nS<>\r\nR<new@example.com>\r\n");
    assert!(matches!(claim.update(&envelope), Err(SpoolError::Changed(_))));
    assert!(matches!(claim.finish(), Err(SpoolError::Changed(_))));
    assert!(matches!(other.claim(&name(2)), Err(SpoolError::Gone(_))));
    let mut claim = other.claim(&name(1)).unwrap();
    assert_eq!(claim.load().unwrap().envelope.recipients()[0].address, "new@example.com");
    // Nor does a Q file that was deleted come back.
    disk.unlink(&queue).unwrap();
    assert!(matches!(claim.update(&envelope), Err(SpoolError::Gone(_))));
    claim.finish().unwrap();
    assert!(store.scan().unwrap().items.is_empty());
}

#[test]
fn held_messages_rest() {
    let disk = prepared();
    let store = store_on(&disk);
    accept(&store, &mut Told::default(), vec![(1, bytes(1))]).unwrap();
    store.hold(&name(1)).unwrap();
    let disk = disk.after(Crash::PowerStrict);
    let store = store_on(&disk);
    assert_eq!(store.scan().unwrap().items[0].state, State::Held);
    assert!(matches!(store.claim(&name(1)), Err(SpoolError::Gone(_))));
    assert!(matches!(store.hold(&name(1)), Err(SpoolError::Gone(_))));
    assert!(matches!(store.discard(&name(1)), Err(SpoolError::Exists(_))));
    store.release(&name(1)).unwrap();
    assert_eq!(store.scan().unwrap().items[0].state, State::Waiting);
    assert!(matches!(store.discard(&name(1)), Err(SpoolError::Exists(_))));
}

#[test]
fn pairs_made_by_hand() {
    let disk = prepared();
    let store = store_on(&disk);
    let seed = |name: &str, content: &[u8]| {
        disk.seed(&TreePath::operator(&store.dir().full().join(name)), content);
    };
    // In capitals, from an old version; its envelope in another case.
    seed("D0B63AA8048C.GSC", b"old");
    seed("q0b63aa8048c.gsc", b"QC:\\IMail\\spool\\D0b63aa8048c.GSC\r\nS<>\r\nR<a@b>\r\n");
    // A copy of a Q file, its path unchanged: it is for the same message.
    seed("Dorig.SMD", b"shared");
    seed("Qorig.SMD", b"QD:\\x\\Dorig.SMD\r\nS<>\r\nR<a@b>\r\n");
    seed("Qcopy.SMD", b"QD:\\x\\Dorig.SMD\r\nS<>\r\nR<c@d>\r\n");
    // A D of another name that only this envelope knows.
    seed("Dbody.SMD", b"body");
    seed("Qmine.SMD", b"Q..\\Dbody.SMD\r\nS<>\r\nR<c@d>\r\n");
    // A path that leads out of the spool, and one that names no D file.
    seed("Devil.SMD", b"fine");
    seed("Qevil.SMD", b"Q/etc/passwd\r\nS<>\r\nR<c@d>\r\n");
    // Alone, without recipients, no envelope at all, claimed by another program.
    seed("Qlone.SMD", b"QDlone.SMD\r\nS<>\r\nR<a@b>\r\n");
    seed("Dnobody.SMD", b"");
    seed("Qnobody.SMD", b"QDnobody.SMD\r\nS<>\r\n");
    seed("Dempty.SMD", b"");
    seed("Qempty.SMD", b"");
    seed("Dweb.SMD", b"");
    seed("Qweb.SMD", b"QDweb.SMD\r\nS<>\r\nR<a@b>\r\n");
    seed("_web.~ab", b"");
    seed("sys20220801.txt", b"");
    seed("next.id", b"");
    let listing = store.scan().unwrap();
    let states: BTreeMap<String, State> =
        listing.items.iter().map(|item| (item.name.stem().to_owned(), item.state)).collect();
    let expected = [
        ("0b63aa8048c", State::Waiting),
        ("copy", State::Waiting),
        ("empty", State::Waiting),
        ("evil", State::Waiting),
        ("lone", State::LoneEnvelope),
        ("mine", State::Waiting),
        ("nobody", State::Waiting),
        ("orig", State::Waiting),
        ("web", State::Waiting),
    ];
    assert_eq!(states, expected.map(|(stem, state)| (stem.to_owned(), state)).into());
    assert_eq!(listing.others, 2);
    let foreign: Vec<_> =
        listing.items.iter().filter(|item| item.foreign).map(|item| item.name.stem()).collect();
    assert_eq!(foreign, ["web"]);
    assert_eq!(store.sweep(&listing), 0);

    let item = |stem: &str| listing.items.iter().find(|item| item.name.stem() == stem).unwrap().name.clone();
    let load = |stem: &str| store.claim(&item(stem)).unwrap().load().unwrap();
    let body = |stem: &str| load(stem).body.map(|body| body.read(0, 100).unwrap());
    for (stem, expected) in [
        ("0b63aa8048c", Some(&b"old"[..])),
        ("copy", Some(b"shared")),
        ("mine", Some(b"body")),
        ("evil", Some(b"fine")),
        ("lone", None),
    ] {
        assert_eq!(body(stem).as_deref(), expected, "{stem}");
    }
    const HOUR: i64 = 3_600_000_000_000;
    let now = disk.now();
    for (stem, soon, later) in
        [("copy", false, false), ("lone", false, true), ("nobody", false, true), ("empty", false, false)]
    {
        let loaded = load(stem);
        assert_eq!((loaded.is_finished(now), loaded.is_finished(now + HOUR)), (soon, later), "{stem}");
    }
    // The copy goes, and the message of the other stays.
    store.claim(&item("copy")).unwrap().finish().unwrap();
    assert_eq!(body("orig").as_deref(), Some(&b"shared"[..]));
    for stem in ["0b63aa8048c", "mine"] {
        store.claim(&item(stem)).unwrap().finish().unwrap();
    }
    let left: Vec<_> = store.scan().unwrap().items.into_iter().map(|item| item.name.to_string()).collect();
    assert_eq!(left, ["empty.SMD", "evil.SMD", "lone.SMD", "nobody.SMD", "orig.SMD", "web.SMD"]);
}

#[test]
fn on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(Arc::new(layout::disk::real::RealDisk::new()), dir.path());
    let store = Store::new(&root).unwrap();
    let ids = IdSource::new(root.shared_disk(), store.dir());
    let mut connection = ids.connection().unwrap();
    let names: Vec<ItemName> =
        (0..20).map(|_| ItemName::new(ids.message(&mut connection).unwrap(), Origin::Mail)).collect();
    for name in &names {
        let envelope = envelope(name.id().0);
        store.commit(vec![store.prepare(name, bytes(1), &envelope).unwrap()]).unwrap();
    }
    // Many workers of several processes; each message is for one of them.
    let served = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let root = Root::new(Arc::new(layout::disk::real::RealDisk::new()), dir.path());
                let store = Store::new(&root).unwrap();
                for name in &names {
                    let Ok(mut claim) = store.claim(name) else { continue };
                    let loaded = claim.load().unwrap();
                    assert_eq!(loaded.body.unwrap().read(0, 1 << 20).unwrap(), text(1));
                    claim.update(&loaded.envelope).unwrap();
                    served.lock().unwrap().push(name.clone());
                    claim.finish().unwrap();
                }
            });
        }
    });
    assert_eq!(served.into_inner().unwrap().len(), 20);
    let listing = store.scan().unwrap();
    store.sweep(&listing);
    let left: Vec<_> =
        std::fs::read_dir(store.dir().full()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["next.id"]);
}
