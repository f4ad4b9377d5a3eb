//! Who may log in: names, passwords, disabled accounts.
//!
//! # Failure
//! [`LoginError`] has one face for the peer, whatever was wrong: a wrong name, a wrong password and a disabled account look the same and
//! take the same time. So does a login that is refused because too many failed before it ([`throttle`]).
//!
//! # Limits
//! [`REMEMBERED`] verified passwords; as many Argon2 computations at a time as there are processors.

pub mod challenge;
mod name;
mod plain;
pub mod throttle;

pub use name::split_login;
pub use plain::plain_login_allowed;

use crate::config::{Config, Live};
use hmac::{Hmac, KeyInit as _, Mac as _};
use layout::name::{MailboxName, UserId};
use layout::password::{self, Stored};
use layout::registry::model::{self, User, flags};
use layout::registry::store::{self, StoreError};
use layout::root::{Root, UserDir};
use layout::user::last_login::LastLogin;
use md5::{Digest as _, Md5};
use sha2::Sha256;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use throttle::Throttle;

/// How many verified passwords are remembered, so that a repeated login does not pay for Argon2 again.
pub const REMEMBERED: usize = 50_000;
/// A login is written down at most once in so many seconds per user.
const LOGIN_GRAIN: Duration = Duration::from_secs(60);
/// Upgrades of old passwords that come within this time share one rewrite of the registry.
const UPGRADES_TOGETHER: Duration = Duration::from_secs(2);

/// A user who is logged in.
#[derive(Clone)]
pub struct Account {
    /// The official name of the domain.
    pub domain: String,
    /// The user ID in lower case.
    pub id: UserId,
    /// `MailAddr`, or user and domain.
    pub address: String,
    /// The user's directory.
    pub dir: UserDir,
    /// The mailbox that a POP3 login named (`user-mailbox`), else the INBOX.
    pub mailbox: MailboxName,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's address: failures are counted for its network.
    pub peer: IpAddr,
    /// The address of ours that it connected to: a name without a domain belongs to that address's domain.
    pub local: IpAddr,
}

/// How a client shows that it knows the password.
enum Proof<'a> {
    Password(&'a str),
    /// The challenge, and its HMAC-MD5 under the password.
    CramMd5(&'a [u8], [u8; 16]),
    /// The challenge, and the MD5 of it and the password.
    Apop(&'a [u8], [u8; 16]),
}

/// Why a login was refused. Only [`LoginError::Unavailable`] may show to the peer as something else than "no".
#[derive(Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Unknown name, wrong password, unusable password, or a disabled account.
    Refused,
    /// The account is there, but its directory leads nowhere on this machine.
    Unavailable,
}

/// Checks logins.
pub struct Accounts {
    live: Arc<Live>,
    /// Keyed digests of what was verified; the key dies with the process.
    key: [u8; 32],
    verified: Mutex<HashMap<[u8; 32], ()>>,
    argon: Slots,
    throttle: Throttle,
    logins: Mutex<HashMap<String, Instant>>,
    upgrades: Sender<Upgrade>,
}

struct Upgrade {
    domain: String,
    id: String,
    old: String,
    new: String,
}

impl Accounts {
    /// Checks against the live configuration.
    pub fn new(live: Arc<Live>) -> Result<Accounts, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let (upgrades, incoming) = mpsc::channel();
        let root = live.now().root().clone();
        let thread = std::thread::Builder::new().name("upgrade".into());
        if let Err(error) = thread.spawn(move || upgrade_passwords(&root, &incoming)) {
            tracing::error!(%error, "old passwords will not be upgraded");
        }
        let argon = Slots::new(std::thread::available_parallelism().map_or(1, usize::from));
        let (verified, logins) = (Mutex::default(), Mutex::default());
        let throttle = Throttle::default();
        Ok(Accounts { live, key, verified, argon, throttle, logins, upgrades })
    }

    /// Logs a user in. `mailboxes` says whether the name may be `user-mailbox`. Blocks for as long as the password's scheme takes.
    pub fn login(
        &self,
        ends: Ends,
        name: &str,
        password: &str,
        mailboxes: bool,
    ) -> Result<Account, LoginError> {
        self.check(ends, name, &Proof::Password(password), mailboxes)
    }

    /// Logs a user in by CRAM-MD5 (RFC 2195): `digest` is what the client answered to `challenge`, without the name. Possible where
    /// [`Accounts::knows_passwords`] only.
    pub fn login_cram_md5(
        &self,
        ends: Ends,
        name: &str,
        challenge: &[u8],
        digest: [u8; 16],
    ) -> Result<Account, LoginError> {
        self.check(ends, name, &Proof::CramMd5(challenge, digest), false)
    }

    /// Logs a user in by APOP (RFC 1939 §7): `digest` is what the client answered to the challenge in the greeting. The name may be
    /// `user-mailbox`. Possible where [`Accounts::knows_passwords`] only.
    pub fn login_apop(
        &self,
        ends: Ends,
        name: &str,
        challenge: &[u8],
        digest: [u8; 16],
    ) -> Result<Account, LoginError> {
        self.check(ends, name, &Proof::Apop(challenge, digest), true)
    }

    /// Are all passwords stored so that they can be had back? Only then can a client show by a digest that it knows one.
    pub fn knows_passwords(config: &Config) -> bool {
        config.registry.global.return_to_imail
    }

    /// Checks a proof, and counts what fails.
    fn check(
        &self,
        ends: Ends,
        name: &str,
        proof: &Proof<'_>,
        mailboxes: bool,
    ) -> Result<Account, LoginError> {
        let config = self.live.now();
        let found = find(&config, ends.local, name, mailboxes);
        let counted = match &found {
            Some((domain, user, _)) => format!("{}@{}", user.id, domain.name),
            None => name.to_owned(),
        };
        if self.throttle.refuses(ends.peer, &counted, Instant::now()) {
            self.waste_time(&config, proof);
            return Err(LoginError::Refused);
        }
        let outcome = match found {
            Some((domain, user, mailbox)) => self.check_user(&config, domain, user, mailbox, proof),
            None => {
                self.waste_time(&config, proof);
                Err(LoginError::Refused)
            }
        };
        match &outcome {
            Ok(_) => self.throttle.succeeded(ends.peer, &counted),
            Err(LoginError::Refused) if self.throttle.failed(ends.peer, &counted, Instant::now()) => {
                tracing::warn!(peer = %ends.peer, "too many failed logins: more are refused for a while");
            }
            Err(_) => {}
        }
        outcome
    }

    fn check_user(
        &self,
        config: &Config,
        domain: &model::Domain,
        user: &User,
        mailbox: MailboxName,
        proof: &Proof<'_>,
    ) -> Result<Account, LoginError> {
        let right = match proof {
            Proof::Password(password) => self.verify(&domain.name, user, password),
            Proof::CramMd5(challenge, digest) => verify_cram_md5(user, challenge, digest),
            Proof::Apop(challenge, digest) => verify_apop(user, challenge, digest),
        };
        if !right || user.has(flags::DISABLED) {
            return Err(LoginError::Refused);
        }
        let id = UserId::parse(&user.id).map_err(|_| LoginError::Refused)?;
        let dir = config.user_dir(domain, &user.id).ok_or(LoginError::Unavailable)?;
        if let Proof::Password(password) = proof
            && !config.registry.global.return_to_imail
            && user.password_kind() == Stored::Imail
        {
            self.upgrade(&domain.name, user, password);
        }
        let address = match user.mail_addr.as_str() {
            "" => format!("{id}@{}", domain.name),
            address => address.to_owned(),
        };
        Ok(Account { domain: domain.name.clone(), id, address, dir, mailbox })
    }

    fn verify(&self, domain: &str, user: &User, offer: &str) -> bool {
        let slow = user.password_kind() == Stored::Argon2;
        let digest = self.digest(&[domain, &user.id, user.password.expose(), offer]);
        if slow && self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&digest) {
            return true;
        }
        let _slot = slow.then(|| self.argon.take());
        let right = user.verify(offer);
        if right && slow {
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
            // The stored text is part of the digest: it is no longer found when the password changes.
            verified.insert(digest, ());
        }
        right
    }

    fn digest(&self, parts: &[&str]) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return [0; 32] };
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// An unknown name costs what a known one costs.
    fn waste_time(&self, config: &Config, proof: &Proof<'_>) {
        if let Proof::Password(offer) = proof
            && !config.registry.global.return_to_imail
        {
            let _slot = self.argon.take();
            // The hash of a random password, made for this.
            const NOBODY: &str = "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZSByYW5kb20gc2FsdA$0000000000000000000000000000000000000000000";
            let _ = password::verify("nobody", NOBODY, offer);
        }
    }

    fn upgrade(&self, domain: &str, user: &User, offer: &str) {
        let _slot = self.argon.take();
        if let Ok(new) = password::store(false, &user.id, offer) {
            let old = user.password.expose().to_owned();
            let _ = self.upgrades.send(Upgrade { domain: domain.to_owned(), id: user.id.clone(), old, new });
        }
    }

    /// Writes down that the user logged in, by whatever protocol: see [`layout::user::last_login`].
    pub fn record_login(&self, account: &Account, protocol: &str) {
        let key = format!("{}@{}", account.id, account.domain);
        {
            let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
            if logins.get(&key).is_some_and(|last| last.elapsed() < LOGIN_GRAIN) {
                return;
            }
            if logins.len() >= REMEMBERED {
                logins.clear();
            }
            logins.insert(key, Instant::now());
        }
        let root = self.live.now().root().clone();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let login = LastLogin { time, protocol: protocol.to_owned() };
        if let Err(error) = login.write(&root, &account.dir) {
            tracing::warn!(user = %account.id, %error, "the last login could not be written down");
        }
    }
}

/// Is this the challenge's HMAC-MD5 under the user's password? No, if the password cannot be had back.
fn verify_cram_md5(user: &User, challenge: &[u8], digest: &[u8; 16]) -> bool {
    let Some(password) = password::recover(user.password_id(), user.password.expose()) else { return false };
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(password.expose().as_bytes()) else { return false };
    mac.update(challenge);
    mac.verify_slice(digest).is_ok()
}

/// Is this the MD5 of the challenge and the user's password? No, if the password cannot be had back.
fn verify_apop(user: &User, challenge: &[u8], digest: &[u8; 16]) -> bool {
    let Some(password) = password::recover(user.password_id(), user.password.expose()) else { return false };
    let right = Md5::new().chain_update(challenge).chain_update(password.expose()).finalize();
    // Both are digests: how far they agree tells nothing of the password.
    right[..] == digest[..]
}

/// The user that a login name means, and the mailbox if the name holds one.
fn find<'a>(
    config: &'a Config,
    local: IpAddr,
    name: &str,
    mailboxes: bool,
) -> Option<(&'a model::Domain, &'a User, MailboxName)> {
    let global = &config.registry.global;
    let (user, domain) = split_login(name, &global.host_delimiters);
    let domain = match domain {
        Some(domain) => config.local_domain(domain)?,
        None => config.domain_at(local)?,
    };
    if let Some(user) = domain.user(user) {
        return Some((domain, user, MailboxName::inbox()));
    }
    let (user, mailbox) = user.rsplit_once(global.mailbox_split_char).filter(|_| mailboxes)?;
    Some((domain, domain.user(user)?, MailboxName::from_text(mailbox).ok()?))
}

/// Writes upgraded passwords into the registry, those that come together with one rewrite.
fn upgrade_passwords(root: &Root, incoming: &Receiver<Upgrade>) {
    while let Ok(first) = incoming.recv() {
        std::thread::sleep(UPGRADES_TOGETHER);
        let mut all = vec![first];
        all.extend(incoming.try_iter());
        let outcome = store::edit(root, |doc| {
            for upgrade in &all {
                let path = model::user_path(&upgrade.domain, &upgrade.id);
                // Somebody may have set another password meanwhile.
                if doc.get_text(&path, "Password").as_deref() == Some(&upgrade.old) {
                    doc.set_text(&path, "Password", &upgrade.new);
                }
            }
            Ok::<_, StoreError>(())
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "upgraded passwords could not be written; they are upgraded at the next login");
        }
    }
}

/// A counted number of places.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count), freed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
