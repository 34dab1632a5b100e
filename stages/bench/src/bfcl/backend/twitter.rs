//! Posts, comments and followers.

use super::{Attribute, Default as D, Setting, methods};
use crate::bfcl::py::{Dict, Py, Raise, Reply, add_in_place, dict, eq, str, to_int};

const NAME: &str = "TwitterAPI";

#[derive(Debug, Clone)]
pub(crate) struct Twitter {
    username: Py,
    password: Py,
    authenticated: Py,
    tweets: Py,
    comments: Py,
    retweets: Py,
    following_list: Py,
    tweet_counter: Py,
    /// The default of `mentions`: one list for all tweets that were posted without, so that who is mentioned in one of
    /// them is mentioned in all, and in those to come.
    default_mentions: Py,
    /// Ids of those tweets.
    posted_without: Vec<Py>,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

/// `list.extend(items)`, which keeps what came before an error.
fn extend(list: &mut Py, items: &Py) -> Reply<()> {
    match list {
        Py::List(_) => items
            .iterate()?
            .into_iter()
            .try_for_each(|item| list.append(item)),
        other => Err(Raise::attribute(other, "extend")),
    }
}

impl Twitter {
    methods! {
        authenticate_twitter = authenticate(username, password);
        posting_get_login_status = login_status();
        post_tweet = post(content, tags = D::EmptyList, mentions = D::Omitted);
        retweet = retweet(tweet_id);
        comment = comment(tweet_id, comment_content);
        mention = mention(tweet_id, mentioned_usernames);
        follow_user = follow(username_to_follow);
        list_all_following = list_following();
        unfollow_user = unfollow(username_to_unfollow);
        get_tweet = get_tweet(tweet_id);
        get_user_tweets = user_tweets(username);
        search_tweets = search(keyword);
        get_tweet_comments = tweet_comments(tweet_id);
        get_user_stats = user_stats(username);
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let get = |key: &str| setting.tables.attribute(NAME, scenario, key, key);
        // Keys of tweets become integers, keys of comments do not.
        let mut tweets = Dict::default();
        for (key, tweet) in get("tweets").dict_for("items")?.iter() {
            tweets.insert(to_int(key)?, tweet.clone())?;
        }
        Ok(Self {
            username: get("username"),
            password: get("password"),
            authenticated: get("authenticated"),
            tweets: tweets.into(),
            comments: get("comments"),
            retweets: get("retweets"),
            following_list: get("following_list"),
            tweet_counter: get("tweet_counter"),
            default_mentions: Vec::new().into(),
            posted_without: Vec::new(),
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("username", Attribute::Value(&self.username)),
            ("password", Attribute::Value(&self.password)),
            ("authenticated", Attribute::Value(&self.authenticated)),
            ("tweets", Attribute::Value(&self.tweets)),
            ("comments", Attribute::Value(&self.comments)),
            ("retweets", Attribute::Value(&self.retweets)),
            ("following_list", Attribute::Value(&self.following_list)),
            ("tweet_counter", Attribute::Value(&self.tweet_counter)),
        ]
    }

    fn unauthenticated(&self, action: &str) -> Option<Reply> {
        let text = format!("User not authenticated. Please authenticate before {action}.");
        (!self.authenticated.truthy()).then(|| error(text))
    }

    fn no_such_tweet(id: &Py) -> Reply {
        error(format!("Tweet with ID {} not found.", str(id)))
    }

    fn authenticate(&mut self, [username, password]: [Py; 2]) -> Reply {
        let known = eq(&username, &self.username) && eq(&password, &self.password);
        if known {
            self.authenticated = Py::Bool(true);
        }
        Ok(dict! {"authentication_status" => known})
    }

    fn login_status(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"login_status" => self.authenticated.truthy()})
    }

    fn post(&mut self, [content, tags, mentions]: [Py; 3]) -> Reply {
        if let Some(refusal) = self.unauthenticated("posting") {
            return refusal;
        }
        let mentions = match mentions {
            Py::Ellipsis => {
                self.posted_without.push(self.tweet_counter.clone());
                self.default_mentions.clone()
            }
            given => given,
        };
        let tweet = dict! {
            "id" => self.tweet_counter.clone(),
            "username" => self.username.clone(),
            "content" => content,
            "tags" => tags,
            "mentions" => mentions,
        };
        self.tweets
            .set_item(self.tweet_counter.clone(), tweet.clone())?;
        self.tweet_counter = add_in_place(&self.tweet_counter, &Py::Int(1))?;
        Ok(tweet)
    }

    fn retweet(&mut self, [id]: [Py; 1]) -> Reply {
        if let Some(refusal) = self.unauthenticated("retweeting") {
            return refusal;
        }
        if !self.tweets.contains(&id)? {
            return Self::no_such_tweet(&id);
        }
        if !self.retweets.contains(&self.username)? {
            self.retweets
                .set_item(self.username.clone(), Vec::new().into())?;
        }
        if self.retweets.item(&self.username)?.contains(&id)? {
            return Ok(dict! {"retweet_status" => "Already retweeted"});
        }
        self.retweets
            .change_item(&self.username, |list| list.append(id))?;
        Ok(dict! {"retweet_status" => "Successfully retweeted"})
    }

    fn comment(&mut self, [id, content]: [Py; 2]) -> Reply {
        if let Some(refusal) = self.unauthenticated("commenting") {
            return refusal;
        }
        if !self.tweets.contains(&id)? {
            return Self::no_such_tweet(&id);
        }
        if !self.comments.contains(&id)? {
            self.comments.set_item(id.clone(), Vec::new().into())?;
        }
        let comment = dict! {"username" => self.username.clone(), "content" => content};
        self.comments
            .change_item(&id, |list| list.append(comment))?;
        Ok(dict! {"comment_status" => "Comment added successfully"})
    }

    fn mention(&mut self, [id, usernames]: [Py; 2]) -> Reply {
        if !self.tweets.contains(&id)? {
            return Self::no_such_tweet(&id);
        }
        let mut mentions = Py::None;
        let changed = self.tweets.change_item(&id, |tweet| {
            tweet.change_item(&"mentions".into(), |found| {
                let changed = extend(found, &usernames);
                mentions = found.clone();
                changed
            })
        });
        if self.posted_without.iter().any(|known| eq(known, &id)) {
            for id in &self.posted_without {
                self.tweets.change_item(id, |tweet| {
                    tweet.set_item("mentions".into(), mentions.clone())
                })?;
            }
            self.default_mentions = mentions;
        }
        changed?;
        Ok(dict! {"mention_status" => "Users mentioned successfully"})
    }

    fn follow(&mut self, [username]: [Py; 1]) -> Reply {
        if let Some(refusal) = self.unauthenticated("following") {
            return refusal;
        }
        let known = self.following_list.contains(&username)?;
        if !known {
            self.following_list.append(username)?;
        }
        Ok(dict! {"follow_status" => !known})
    }

    fn list_following(&mut self, []: [Py; 0]) -> Reply {
        if let Some(refusal) = self.unauthenticated("listing following") {
            return refusal;
        }
        Ok(dict! {"following_list" => self.following_list.clone()})
    }

    fn unfollow(&mut self, [username]: [Py; 1]) -> Reply {
        if let Some(refusal) = self.unauthenticated("unfollowing") {
            return refusal;
        }
        let known = self.following_list.contains(&username)?;
        if known {
            self.following_list.remove(&username)?;
        }
        Ok(dict! {"unfollow_status" => known})
    }

    fn get_tweet(&mut self, [id]: [Py; 1]) -> Reply {
        match self.tweets.contains(&id)? {
            true => self.tweets.item(&id),
            false => Self::no_such_tweet(&id),
        }
    }

    fn tweets_where(&self, mut wanted: impl FnMut(&Py) -> Reply<bool>) -> Reply<Vec<Py>> {
        let mut found = Vec::new();
        for tweet in self.tweets.dict_for("values")?.values() {
            if wanted(tweet)? {
                found.push(tweet.clone());
            }
        }
        Ok(found)
    }

    fn user_tweets(&mut self, [username]: [Py; 1]) -> Reply {
        let tweets =
            self.tweets_where(|tweet| Ok(eq(&tweet.item(&"username".into())?, &username)))?;
        Ok(tweets.into())
    }

    fn search(&mut self, [keyword]: [Py; 1]) -> Reply {
        let lower = |text: &Py| -> Reply<String> { Ok(text.text_for("lower")?.to_lowercase()) };
        let tweets = self.tweets_where(|tweet| {
            let keyword = lower(&keyword)?;
            if lower(&tweet.item(&"content".into())?)?.contains(&keyword) {
                return Ok(true);
            }
            let tags = tweet.item(&"tags".into())?.iterate()?;
            let tags: Vec<String> = tags.iter().map(lower).collect::<Reply<_>>()?;
            Ok(tags.contains(&keyword))
        })?;
        Ok(tweets.into())
    }

    fn tweet_comments(&mut self, [id]: [Py; 1]) -> Reply {
        if !self.tweets.contains(&id)? {
            return Self::no_such_tweet(&id);
        }
        let comments = self.comments.dict_for("get")?.get(&id)?;
        Ok(comments.cloned().unwrap_or_else(|| Vec::new().into()))
    }

    fn user_stats(&mut self, [username]: [Py; 1]) -> Reply {
        let tweets =
            self.tweets_where(|tweet| Ok(eq(&tweet.item(&"username".into())?, &username)))?;
        let following = match eq(&username, &self.username) {
            true => self.following_list.len()?,
            false => 0,
        };
        let retweets = match self.retweets.dict_for("get")?.get(&username)? {
            Some(list) => list.len()?,
            None => 0,
        };
        Ok(dict! {
            "tweet_count" => tweets.len() as i64,
            "following_count" => following as i64,
            "retweet_count" => retweets as i64,
        })
    }
}
