//! Logging in: LOGIN and AUTHENTICATE (RFC 3501 §6.2), with PLAIN (RFC 4616), LOGIN and, where passwords can be had back, CRAM-MD5 (RFC 2195).

use super::command::Secret;
use super::outcome::{Done, Failed, Outcome};
use super::session::{Session, TOO_SLOW};
use super::wire::left;
use crate::account::challenge::{challenge, name_and_digest};
use crate::account::{Account, Accounts, Ends, LoginError, split_login};
use crate::session::connection::{Connection, ReadError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layout::logline::Event;
use tokio::task::block_in_place;
use tokio::time::Instant;

/// The longest line of an authentication exchange.
const RESPONSE_MAX: usize = 4096;

impl Session {
    /// LOGIN.
    pub(super) fn login(&mut self, user: &[u8], password: &Secret) -> Outcome {
        self.refuse_in_the_clear()?;
        self.check_password(user, &password.0)
    }

    /// AUTHENTICATE, with the answers of the client.
    pub(super) async fn authenticate(
        &mut self,
        connection: &mut Connection,
        mechanism: &str,
        initial: Option<Secret>,
    ) -> Outcome {
        self.refuse_in_the_clear()?;
        let until = self.login_until;
        match mechanism {
            "PLAIN" => {
                let response = match initial {
                    Some(initial) => decode(&initial.0)?,
                    None => ask(connection, b"", until).await?,
                };
                let (user, password) = plain(&response)?;
                block_in_place(|| self.check_password(&user, &password))
            }
            "LOGIN" => {
                let user = match initial {
                    Some(initial) => decode(&initial.0)?,
                    None => ask(connection, b"Username:", until).await?,
                };
                let password = ask(connection, b"Password:", until).await?;
                block_in_place(|| self.check_password(&user, &password))
            }
            "CRAM-MD5" if Accounts::knows_passwords(&self.config()) => self.cram_md5(connection).await,
            _ => Err(Failed::No("CANNOT", "this way to log in is not known; use PLAIN or LOGIN".to_owned())),
        }
    }

    fn refuse_in_the_clear(&self) -> Result<(), Failed> {
        match self.may_log_in() {
            true => Ok(()),
            false => Err(Failed::No(
                "PRIVACYREQUIRED",
                "logins from your network need STARTTLS, so that nobody can read the password".to_owned(),
            )),
        }
    }

    async fn cram_md5(&mut self, connection: &mut Connection) -> Outcome {
        let host = self.config().host_name(self.local).to_owned();
        let challenge = challenge(&host)
            .map_err(|_| Failed::No("UNAVAILABLE", "no challenge can be made now".to_owned()))?;
        let answer = ask(connection, challenge.as_bytes(), self.login_until).await?;
        let (name, digest) = name_and_digest(&answer)
            .ok_or_else(|| Failed::Bad("the response is not of the form of CRAM-MD5".to_owned()))?;
        block_in_place(|| {
            let login = self.server.accounts.login_cram_md5(self.ends(), &name, challenge.as_bytes(), digest);
            self.logged_in(&name, login)
        })
    }

    fn ends(&self) -> Ends {
        Ends { peer: self.peer, local: self.local }
    }

    fn check_password(&mut self, user: &[u8], password: &[u8]) -> Outcome {
        let name = String::from_utf8_lossy(user);
        let offer = String::from_utf8_lossy(password);
        let login = self.server.accounts.login(self.ends(), &name, &offer, false);
        self.logged_in(&name, login)
    }

    /// Takes the account, or counts a failure.
    fn logged_in(&mut self, name: &str, login: Result<Account, LoginError>) -> Outcome {
        match login {
            Ok(account) => {
                self.server.accounts.record_login(&account, "IMAP");
                let (user, domain) = (account.id.as_str(), account.domain.as_str());
                self.log(&Event::Logon { user, domain, peer: self.peer });
                self.account = Some(account);
                Ok(Done { code: format!("CAPABILITY {}", self.capabilities()), text: "you are logged in" })
            }
            Err(LoginError::Refused) => {
                self.failures += 1;
                let config = self.config();
                let (user, domain) = split_login(name, &config.registry.global.host_delimiters);
                let domain = domain.unwrap_or("-");
                self.log(&Event::LogonFailed { user, domain, peer: self.peer });
                Err(Failed::No("AUTHENTICATIONFAILED", "the name or the password is wrong".to_owned()))
            }
            Err(LoginError::Unavailable) => Err(Failed::No(
                "UNAVAILABLE",
                "the mail directory of this account cannot be reached, tell the administrator".to_owned(),
            )),
        }
    }
}

/// Sends a challenge and reads the response. `*` gives up (RFC 3501 §6.2.2).
async fn ask(connection: &mut Connection, challenge: &[u8], until: Instant) -> Result<Vec<u8>, Failed> {
    connection.answer(format!("+ {}\r\n", STANDARD.encode(challenge)));
    connection.flush().await?;
    let line = match connection.line(RESPONSE_MAX, left(until)).await {
        Ok(line) => line,
        Err(ReadError::TooLong) => return Err(Failed::Bye("the response is too long")),
        Err(ReadError::Slow) => return Err(Failed::Bye(TOO_SLOW)),
        Err(ReadError::Closed) => return Err(Failed::Connection),
        Err(ReadError::Io(error)) => return Err(error.into()),
    };
    let line = line.trim_ascii();
    if line == b"*" {
        return Err(Failed::Bad("the login was given up".to_owned()));
    }
    decode(line)
}

fn decode(base64: &[u8]) -> Result<Vec<u8>, Failed> {
    STANDARD.decode(base64).map_err(|_| Failed::Bad("the response is no base64".to_owned()))
}

/// User and password of a PLAIN response: `[authorization] NUL user NUL password`. Acting for somebody else is not possible.
fn plain(response: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Failed> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(other), Some(user), Some(password)) if other.is_empty() || other == user => {
            Ok((user.to_vec(), password.to_vec()))
        }
        (Some(_), Some(_), Some(_)) => {
            Err(Failed::No("AUTHORIZATIONFAILED", "nobody can log in for somebody else".to_owned()))
        }
        _ => Err(Failed::Bad("the response is not of the form of PLAIN".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_responses() {
        for (response, expected) in [
            ("\0mike\0secret", Some(("mike", "secret"))),
            ("mike\0mike\0se\0cret", Some(("mike", "se\0cret"))),
            ("ann\0mike\0secret", None),
            ("mike\0secret", None),
            ("", None),
        ] {
            let found = plain(response.as_bytes()).ok();
            let expected =
                expected.map(|(user, password)| (user.as_bytes().to_vec(), password.as_bytes().to_vec()));
            assert_eq!(found, expected, "{response:?}");
        }
    }
}
