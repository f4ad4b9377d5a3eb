//! Who may log in: names, passwords, disabled accounts.
//!
//! # Failure
//! [`LoginError`] has one face for the peer, whatever was wrong: a wrong name, a wrong password and a disabled account look the same and
//! take the same time.
//!
//! # Limits
//! [`REMEMBERED`] verified passwords; as many Argon2 computations at a time as there are processors.

mod name;
mod plain;

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
use sha2::Sha256;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
        Ok(Accounts { live, key, verified, argon, logins, upgrades })
    }

    /// Logs a user in. `local` is the address of ours that the client connected to; `mailboxes` says whether the name may be `user-mailbox`.
    /// Blocks for as long as the password's scheme takes.
    pub fn login(
        &self,
        local: IpAddr,
        name: &str,
        password: &str,
        mailboxes: bool,
    ) -> Result<Account, LoginError> {
        let config = self.live.now();
        let found = find(&config, local, name, mailboxes);
        let Some((domain, user, mailbox)) = found else {
            self.waste_time(&config, password);
            return Err(LoginError::Refused);
        };
        if !self.verify(&domain.name, user, password) || user.has(flags::DISABLED) {
            return Err(LoginError::Refused);
        }
        let id = UserId::parse(&user.id).map_err(|_| LoginError::Refused)?;
        let dir = config.user_dir(domain, &user.id).ok_or(LoginError::Unavailable)?;
        if !config.registry.global.return_to_imail && user.password_kind() == Stored::Imail {
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
    fn waste_time(&self, config: &Config, offer: &str) {
        if !config.registry.global.return_to_imail {
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
