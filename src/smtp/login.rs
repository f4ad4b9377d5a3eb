//! AUTH (RFC 4954): LOGIN, PLAIN, and CRAM-MD5 where passwords can be read back.
//!
//! # Limits
//! [`LOGINS_MAX`] failures end the session; [`crate::account::throttle`] counts those of several. [`super::limits`] says how much an account may send.

use super::limits::Ticket;
use super::reply::text;
use super::{COMMAND_PATIENCE, Flow, Session};
use crate::account::challenge::{challenge, name_and_digest};
use crate::account::{Account, Accounts, LoginError, plain_login_allowed};
use crate::config::Config;
use crate::session::connection::{Connection, ReadError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use layout::logline::Event;
use std::time::Instant;

/// The longest line of an authentication exchange (RFC 4954 §4).
const AUTH_LINE_MAX: usize = 12_288;
/// After so many failed logins the connection ends.
const LOGINS_MAX: u32 = 5;

/// A user who logged in.
pub(super) struct Login {
    /// User and domain.
    pub(super) user: String,
    /// Counts what the user sends.
    pub(super) ticket: Ticket,
}

impl Session {
    pub(super) async fn auth(
        &mut self,
        connection: &mut Connection,
        mechanism: &str,
        initial: Option<String>,
    ) -> Result<Flow, ReadError> {
        let config = self.server.live.now();
        if self.hello.is_none() || self.login.is_some() || self.transaction.is_some() {
            self.refuse(connection, text::SEQUENCE);
            return Ok(Flow::Go);
        }
        if !may_log_in(&config, connection) {
            self.refuse(connection, text::AUTH_PRIVATE);
            return Ok(Flow::Go);
        }
        if mechanism == "CRAM-MD5" && Accounts::knows_passwords(&config) {
            return self.cram_md5(connection, &config).await;
        }
        let offered = match mechanism {
            "PLAIN" => exchange(connection, "", initial)
                .await?
                .and_then(|bytes| plain_credentials(&bytes).ok_or(text::BASE64)),
            "LOGIN" => match exchange(connection, "VXNlcm5hbWU6", initial).await? {
                Ok(name) => exchange(connection, "UGFzc3dvcmQ6", None)
                    .await?
                    .and_then(|password| texts(name, password).ok_or(text::BASE64)),
                Err(why) => Err(why),
            },
            _ => Err(text::AUTH_MECHANISM),
        };
        let (name, password) = match offered {
            Ok(offered) => offered,
            Err(why) => {
                self.refuse(connection, why);
                return Ok(Flow::Go);
            }
        };
        let ends = connection.ends();
        let login = tokio::task::block_in_place(|| self.server.accounts.login(ends, &name, &password, false));
        Ok(self.logged_in(connection, &name, login))
    }

    /// AUTH CRAM-MD5 (RFC 2195).
    async fn cram_md5(&mut self, connection: &mut Connection, config: &Config) -> Result<Flow, ReadError> {
        let host = config.host_name(connection.local_ip());
        let challenge = challenge(host).map_err(std::io::Error::other)?;
        let answer = exchange(connection, &BASE64.encode(&challenge), None).await?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.refuse(connection, why);
                return Ok(Flow::Go);
            }
        };
        let Some((name, digest)) = name_and_digest(&answer) else {
            self.refuse(connection, text::BASE64);
            return Ok(Flow::Go);
        };
        let ends = connection.ends();
        let accounts = &self.server.accounts;
        let login = tokio::task::block_in_place(|| {
            accounts.login_cram_md5(ends, &name, challenge.as_bytes(), digest)
        });
        Ok(self.logged_in(connection, &name, login))
    }

    /// Answers a login.
    fn logged_in(
        &mut self,
        connection: &mut Connection,
        name: &str,
        login: Result<Account, LoginError>,
    ) -> Flow {
        match login {
            Ok(account) => {
                let user = format!("{}@{}", account.id, account.domain);
                let Some(ticket) = self.server.senders.enter(&user, Instant::now()) else {
                    self.refuse(connection, text::ACCOUNT_SESSIONS);
                    return Flow::End;
                };
                tokio::task::block_in_place(|| self.server.accounts.record_login(&account, "SMTP"));
                self.log(connection, &Event::Authenticated { user: &user });
                self.login = Some(Login { user, ticket });
                connection.answer(format!("{}\r\n", text::AUTHENTICATED));
            }
            Err(LoginError::Unavailable) => self.refuse(connection, text::NOT_STORED),
            Err(LoginError::Refused) => {
                let shown: String = name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
                self.log(connection, &Event::AuthenticationFailed { user: &shown });
                self.failed_logins += 1;
                self.errors += 1;
                if self.failed_logins >= LOGINS_MAX {
                    connection.answer(format!("{}\r\n", text::AUTH_ENOUGH));
                    return Flow::End;
                }
                connection.answer(format!("{}\r\n", text::AUTH_FAILED));
            }
        }
        Flow::Go
    }
}

/// Is a password taken on this connection?
pub(super) fn may_log_in(config: &Config, connection: &Connection) -> bool {
    connection.is_secure() || plain_login_allowed(config.registry.global.plain_login, connection.peer_ip())
}

fn texts(name: Vec<u8>, password: Vec<u8>) -> Option<(String, String)> {
    Some((String::from_utf8(name).ok()?, String::from_utf8(password).ok()?))
}

/// Asks with a challenge and reads the answer, unless the client sent it along; or the reply to one who takes AUTH back, or sends no base64.
async fn exchange(
    connection: &mut Connection,
    challenge: &str,
    initial: Option<String>,
) -> Result<Result<Vec<u8>, &'static str>, ReadError> {
    let answer = match initial {
        // An empty initial response is written "=" (RFC 4954 section 4).
        Some(initial) if initial == "=" => String::new(),
        Some(initial) => initial,
        None => {
            connection.answer(format!("334 {challenge}\r\n"));
            connection.flush().await?;
            let line = connection.line(AUTH_LINE_MAX, COMMAND_PATIENCE).await?;
            String::from_utf8_lossy(&line).trim().to_owned()
        }
    };
    if answer == "*" {
        return Ok(Err(text::AUTH_CANCELLED));
    }
    Ok(BASE64.decode(answer).map_err(|_| text::BASE64))
}

/// Name and password of SASL PLAIN (RFC 4616); an authorization name must be the same user or empty.
fn plain_credentials(bytes: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts = text.split('\0');
    let (authorization, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    let same = authorization.is_empty() || authorization.eq_ignore_ascii_case(name);
    (same && parts.next().is_none()).then(|| (name.to_owned(), password.to_owned()))
}
