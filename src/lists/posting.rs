//! Who may post: the table of manual 3-2 (11 a, d, f), as the helps of version 10 and later read it.
//!
//! Helps of 5.x to 7.x say the opposite of posters on two points; version 12 is what runs here.
//!
//! | list | nothing else | password | posters | both |
//! | --- | --- | --- | --- | --- |
//! | anyone | everybody | everybody with it | everybody | everybody with it |
//! | subscribers | members | members with it | members and posters | members and posters with it |
//! | moderator | the owner | the owner with it | the owner and posters | posters; the owner with it |
//!
//! The owner may always post, with the password if there is one: that is how a post that went to the owner is let through.

use layout::list::settings::AllowPosting;

/// What the list wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who may post.
    pub allow: AllowPosting,
    /// Does the posters file count?
    pub posters: bool,
    /// Is there a password?
    pub password: bool,
}

/// What is known of a post's author.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The list's owner.
    pub owner: bool,
    /// A member, of digests or not.
    pub member: bool,
    /// In the posters file.
    pub poster: bool,
    /// The subject bore the right password.
    pub password: bool,
}

/// What becomes of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The members get it.
    Post,
    /// The owner gets it, and decides.
    ToOwner,
    /// It goes back: its password is missing or wrong.
    WrongPassword,
}

/// Decides.
pub fn decide(wanted: Wanted, author: Author) -> Verdict {
    let poster = wanted.posters && author.poster;
    let (allowed, needs_password) = match wanted.allow {
        AllowPosting::Anyone => (true, true),
        AllowPosting::Subscribers => (author.owner || author.member || poster, true),
        AllowPosting::Moderators => (author.owner || poster, !poster),
    };
    match () {
        () if !allowed => Verdict::ToOwner,
        () if wanted.password && needs_password && !author.password => Verdict::WrongPassword,
        () => Verdict::Post,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Post, ToOwner, WrongPassword};
    use super::*;

    /// One row for each kind of list, protection and author: with the right password, and without.
    #[test]
    fn the_matrix() {
        use AllowPosting::{Anyone, Moderators, Subscribers};
        let nobody = Author::default();
        let owner = Author { owner: true, ..nobody };
        let member = Author { member: true, ..nobody };
        let poster = Author { poster: true, ..nobody };
        let both = Author { poster: true, member: true, ..nobody };
        // (list, password, posters, author, verdict with the password, verdict without)
        let rows = [
            (Anyone, false, false, nobody, Post, Post),
            (Anyone, true, false, nobody, Post, WrongPassword),
            (Anyone, false, true, nobody, Post, Post),
            (Anyone, true, true, poster, Post, WrongPassword),
            (Anyone, true, false, owner, Post, WrongPassword),
            (Subscribers, false, false, member, Post, Post),
            (Subscribers, false, false, nobody, ToOwner, ToOwner),
            (Subscribers, false, false, poster, ToOwner, ToOwner),
            (Subscribers, false, false, owner, Post, Post),
            (Subscribers, true, false, member, Post, WrongPassword),
            (Subscribers, true, false, nobody, ToOwner, ToOwner),
            (Subscribers, true, false, owner, Post, WrongPassword),
            (Subscribers, false, true, member, Post, Post),
            (Subscribers, false, true, poster, Post, Post),
            (Subscribers, false, true, nobody, ToOwner, ToOwner),
            (Subscribers, true, true, member, Post, WrongPassword),
            (Subscribers, true, true, poster, Post, WrongPassword),
            (Subscribers, true, true, both, Post, WrongPassword),
            (Subscribers, true, true, nobody, ToOwner, ToOwner),
            (Moderators, false, false, owner, Post, Post),
            (Moderators, false, false, member, ToOwner, ToOwner),
            (Moderators, false, false, poster, ToOwner, ToOwner),
            (Moderators, true, false, owner, Post, WrongPassword),
            (Moderators, true, false, member, ToOwner, ToOwner),
            (Moderators, false, true, owner, Post, Post),
            (Moderators, false, true, poster, Post, Post),
            (Moderators, false, true, member, ToOwner, ToOwner),
            (Moderators, true, true, owner, Post, WrongPassword),
            (Moderators, true, true, poster, Post, Post),
            (Moderators, true, true, nobody, ToOwner, ToOwner),
        ];
        for (allow, password, posters, author, with, without) in rows {
            let wanted = Wanted { allow, password, posters };
            assert_eq!(decide(wanted, Author { password: true, ..author }), with, "{wanted:?} {author:?}");
            assert_eq!(decide(wanted, author), without, "{wanted:?} {author:?} without");
        }
    }
}
