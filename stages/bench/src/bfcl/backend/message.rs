//! Messages between the users of a workspace.

use std::sync::Arc;

use super::random::Random;
use super::{Attribute, Setting, methods};
use crate::bfcl::py::{Class, Dict, Py, Raise, Reply, add_in_place, dict, eq, str};

const NAME: &str = "MessageAPI";

#[derive(Debug, Clone)]
pub(crate) struct Message {
    generated_ids: Py,
    user_count: Py,
    user_map: Py,
    inbox: Py,
    message_count: Py,
    current_user: Py,
    random: Random,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

fn not_logged_in() -> Reply {
    error("No user is currently logged in.")
}

/// The first entry of a message, which may be anything.
fn first_entry(message: &Py) -> Reply<(Py, Py)> {
    let entries = message.dict_for("items")?;
    match entries.first() {
        Some((key, value)) => Ok((key.clone(), value.clone())),
        None => Err(Raise::new(Class::Other, "list index out of range")),
    }
}

impl Message {
    methods! {
        list_users = list_users();
        get_user_id = get_user_id(user);
        message_login = login(user_id);
        message_get_login_status = login_status();
        send_message = send(receiver_id, message);
        delete_message = delete(receiver_id);
        view_messages_sent = view_sent();
        add_contact = add_contact(user_name);
        search_messages = search(keyword);
        get_message_stats = stats();
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let get = |key: &str| setting.tables.attribute(NAME, scenario, key, key);
        let given = |key: &str| match scenario {
            Py::Dict(scenario) => scenario.get_str(key).cloned(),
            _ => None,
        };
        Ok(Self {
            // The default is an empty set, for which JSON has no form.
            generated_ids: given("generated_ids").unwrap_or_else(|| Py::Set(Arc::default())),
            user_count: get("user_count"),
            user_map: get("user_map"),
            inbox: get("inbox"),
            message_count: get("message_count"),
            current_user: get("current_user"),
            random: Random::new(&given("random_seed").unwrap_or(Py::Int(200_191))),
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("generated_ids", Attribute::Value(&self.generated_ids)),
            ("user_count", Attribute::Value(&self.user_count)),
            ("user_map", Attribute::Value(&self.user_map)),
            ("inbox", Attribute::Value(&self.inbox)),
            ("message_count", Attribute::Value(&self.message_count)),
            ("current_user", Attribute::Value(&self.current_user)),
        ]
    }

    fn is_user_id(&self, id: &Py) -> Reply<bool> {
        let users = self.user_map.dict_for("values")?;
        Ok(users.values().any(|found| eq(found, id)))
    }

    fn list_users(&mut self, []: [Py; 0]) -> Reply {
        let users: Vec<Py> = self.user_map.dict_for("keys")?.keys().cloned().collect();
        Ok(dict! {"user_list" => users})
    }

    fn get_user_id(&mut self, [user]: [Py; 1]) -> Reply {
        if !self.user_map.contains(&user)? {
            return error(format!("User '{}' not found in the workspace.", str(&user)));
        }
        Ok(dict! {"user_id" => self.user_map.item(&user)?})
    }

    fn login(&mut self, [user_id]: [Py; 1]) -> Reply {
        let name = str(&user_id);
        if !self.is_user_id(&user_id)? {
            let message = format!("User ID '{name}' not found.");
            return Ok(dict! {"login_status" => false, "message" => message});
        }
        self.current_user = user_id;
        let message = format!("User '{name}' logged in successfully.");
        Ok(dict! {"login_status" => true, "message" => message})
    }

    fn login_status(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"login_status" => self.current_user.truthy()})
    }

    fn draw_id(&mut self) -> Reply {
        loop {
            let id = Py::Int(self.random.int(10_000, 99_999));
            if self.generated_ids.contains(&id)? {
                continue;
            }
            match &mut self.generated_ids {
                Py::Set(ids) => Arc::make_mut(ids).push(id.clone()),
                other => return Err(Raise::attribute(other, "add")),
            }
            return Ok(id);
        }
    }

    fn send(&mut self, [receiver_id, message]: [Py; 2]) -> Reply {
        if !self.current_user.truthy() {
            return not_logged_in();
        }
        if !self.is_user_id(&receiver_id)? {
            return error(format!("Receiver ID '{}' not found.", str(&receiver_id)));
        }
        if matches!(&self.generated_ids, Py::Set(ids) if ids.len() > 80_000) {
            // Nearly every number is taken; drawing would go on for ever.
            return Err(Raise::limit());
        }
        let id = self.draw_id()?;
        receiver_id.require_hashable()?;
        let sent = format!("Message sent to '{}' successfully.", str(&receiver_id));
        let entry: Dict = [(receiver_id, message)].into_iter().collect();
        self.inbox.append(entry.into())?;
        self.message_count = add_in_place(&self.message_count, &Py::Int(1))?;
        Ok(dict! {
            "sent_status" => true,
            "message_id" => dict! {"new_id" => id},
            "message" => sent,
        })
    }

    fn delete(&mut self, [receiver_id]: [Py; 1]) -> Reply {
        if !self.current_user.truthy() {
            return not_logged_in();
        }
        let messages = self.inbox.iterate()?;
        for message in messages.iter().rev() {
            let (receiver, _) = first_entry(message)?;
            if eq(&receiver, &receiver_id) {
                self.inbox.remove(message)?;
                let text = format!(
                    "Receiver {}'s latest message deleted successfully.",
                    str(&receiver_id)
                );
                return Ok(dict! {
                    "deleted_status" => true,
                    "receiver_id" => receiver,
                    "message" => text,
                });
            }
        }
        error(format!("Receiver ID {} not found.", str(&receiver_id)))
    }

    fn view_sent(&mut self, []: [Py; 0]) -> Reply {
        if !self.current_user.truthy() {
            return not_logged_in();
        }
        let mut sent = Dict::default();
        for message in self.inbox.iterate()? {
            let (receiver, content) = first_entry(&message)?;
            match sent.get_mut(&receiver)? {
                Some(contents) => contents.append(content)?,
                None => sent.insert(receiver, vec![content].into())?,
            }
        }
        Ok(dict! {"messages" => sent})
    }

    fn add_contact(&mut self, [user_name]: [Py; 1]) -> Reply {
        if self.user_map.contains(&user_name)? {
            return error(format!("User name '{}' already exists.", str(&user_name)));
        }
        self.user_count = add_in_place(&self.user_count, &Py::Int(1))?;
        let id = Py::from(format!("USR{}", zero_filled(&str(&self.user_count))));
        if self.is_user_id(&id)? {
            return error(format!("User ID '{}' already exists.", str(&id)));
        }
        let text = format!("Contact '{}' added successfully.", str(&user_name));
        self.user_map.set_item(user_name, id.clone())?;
        Ok(dict! {"added_status" => true, "user_id" => id, "message" => text})
    }

    fn search(&mut self, [keyword]: [Py; 1]) -> Reply {
        if !self.current_user.truthy() {
            return not_logged_in();
        }
        let keyword = keyword.text_for("lower")?.to_lowercase();
        let mut results = Vec::new();
        for message in self.inbox.iterate()? {
            let (receiver, content) = first_entry(&message)?;
            if content.text_for("lower")?.to_lowercase().contains(&keyword) {
                results.push(dict! {"receiver_id" => receiver, "message" => content});
            }
        }
        Ok(dict! {"results" => results})
    }

    fn stats(&mut self, []: [Py; 0]) -> Reply {
        if !self.current_user.truthy() {
            return not_logged_in();
        }
        let mut contacts = Dict::default();
        let messages = self.inbox.iterate()?;
        for message in &messages {
            contacts.insert(first_entry(message)?.0, Py::None)?;
        }
        Ok(dict! {"stats" => dict! {
            "received_count" => messages.len() as i64,
            "total_contacts" => contacts.len() as i64,
        }})
    }
}

/// `text.zfill(3)`: a sign stays in front.
fn zero_filled(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(digits) => format!("-{digits:0>2}"),
        None => format!("{text:0>3}"),
    }
}
