//! Support tickets.

use super::{Attribute, Default as D, Setting, methods};
use crate::bfcl::py::{Class, Py, Raise, Reply, add_in_place, dict, eq, less, str};

const NAME: &str = "TicketAPI";

#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    ticket_queue: Py,
    ticket_counter: Py,
    current_user: Py,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

impl Ticket {
    methods! {
        create_ticket = create(title, description = D::Text(""), priority = D::Int(1));
        get_ticket = get(ticket_id);
        close_ticket = close(ticket_id);
        resolve_ticket = resolve(ticket_id, resolution);
        edit_ticket = edit(ticket_id, updates);
        ticket_login = login(username, password);
        ticket_get_login_status = login_status();
        logout = logout();
        get_user_tickets = user_tickets(status = D::None);
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let get = |key: &str| setting.tables.attribute(NAME, scenario, key, key);
        Ok(Self {
            ticket_queue: get("ticket_queue"),
            ticket_counter: get("ticket_counter"),
            current_user: get("current_user"),
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("ticket_queue", Attribute::Value(&self.ticket_queue)),
            ("ticket_counter", Attribute::Value(&self.ticket_counter)),
            ("current_user", Attribute::Value(&self.current_user)),
        ]
    }

    fn create(&mut self, [title, description, priority]: [Py; 3]) -> Reply {
        if !self.current_user.truthy() {
            return error("User not authenticated. Please log in to create a ticket.");
        }
        if less(&priority, &Py::Int(1))? || greater(&priority, &Py::Int(5))? {
            return error("Invalid priority. Priority must be between 1 and 5.");
        }
        let ticket = dict! {
            "id" => self.ticket_counter.clone(),
            "title" => title,
            "description" => description,
            "status" => "Open",
            "priority" => priority,
            "created_by" => self.current_user.clone(),
        };
        self.ticket_queue.append(ticket.clone())?;
        self.ticket_counter = add_in_place(&self.ticket_counter, &Py::Int(1))?;
        Ok(ticket)
    }

    /// Where the first ticket of this id stands. An entry without id raises when it is reached.
    fn find(&self, id: &Py) -> Reply<Option<usize>> {
        for (at, ticket) in self.ticket_queue.iterate()?.iter().enumerate() {
            if eq(&ticket.item(&"id".into())?, id) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn ticket(&self, at: usize) -> Reply {
        self.ticket_queue.item(&Py::Int(at as i64))
    }

    fn set(&mut self, at: usize, key: Py, value: Py) -> Reply<()> {
        match &mut self.ticket_queue {
            Py::List(tickets) => std::sync::Arc::make_mut(tickets)[at].set_item(key, value),
            _ => Err(Raise::new(Class::Other, "the queue is no list")),
        }
    }

    fn not_found(id: &Py) -> Reply {
        error(format!("Ticket with ID {} not found.", str(id)))
    }

    fn get(&mut self, [id]: [Py; 1]) -> Reply {
        match self.find(&id)? {
            Some(at) => self.ticket(at),
            None => Self::not_found(&id),
        }
    }

    fn close(&mut self, [id]: [Py; 1]) -> Reply {
        let Some(at) = self.find(&id)? else {
            return Self::not_found(&id);
        };
        if self.ticket(at)?.item(&"status".into())?.is("Closed") {
            return error(format!("Ticket with ID {} is already closed.", str(&id)));
        }
        self.set(at, "status".into(), "Closed".into())?;
        Ok(dict! {"status" => format!("Ticket {} has been closed successfully.", str(&id))})
    }

    fn resolve(&mut self, [id, resolution]: [Py; 2]) -> Reply {
        let Some(at) = self.find(&id)? else {
            return Self::not_found(&id);
        };
        if self.ticket(at)?.item(&"status".into())?.is("Resolved") {
            return error(format!("Ticket with ID {} is already resolved.", str(&id)));
        }
        self.set(at, "status".into(), "Resolved".into())?;
        self.set(at, "resolution".into(), resolution)?;
        Ok(dict! {"status" => format!("Ticket {} has been resolved successfully.", str(&id))})
    }

    fn edit(&mut self, [id, updates]: [Py; 2]) -> Reply {
        let Some(at) = self.find(&id)? else {
            return Self::not_found(&id);
        };
        let updates = updates.dict_for("keys")?;
        let fields = ["title", "description", "status", "priority"];
        let mut unknown = Vec::new();
        for key in updates
            .keys()
            .filter(|key| !fields.iter().any(|field| key.is(field)))
        {
            match key.as_str() {
                Some(key) => unknown.push(key),
                None => {
                    let (at, name) = (unknown.len(), key.type_name());
                    let text = format!("sequence item {at}: expected str instance, {name} found");
                    return Err(Raise::type_error(text));
                }
            }
        }
        // Python lists several of them in the order of a hash set; here it is the order in which they were given.
        if !unknown.is_empty() {
            return error(format!("Invalid fields for update: {}", unknown.join(", ")));
        }
        for (key, value) in updates.iter().filter(|(_, value)| !value.is_none()) {
            self.set(at, key.clone(), value.clone())?;
        }
        Ok(dict! {"status" => format!("Ticket {} has been updated successfully.", str(&id))})
    }

    fn login(&mut self, [username, password]: [Py; 2]) -> Reply {
        let success = username.truthy() && password.truthy();
        if success {
            self.current_user = username;
        }
        Ok(dict! {"success" => success})
    }

    fn login_status(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"login_status" => self.current_user.truthy()})
    }

    fn logout(&mut self, []: [Py; 0]) -> Reply {
        let success = self.current_user.truthy();
        if success {
            self.current_user = Py::None;
        }
        Ok(dict! {"success" => success})
    }

    fn user_tickets(&mut self, [status]: [Py; 1]) -> Reply {
        if !self.current_user.truthy() {
            let text = "User not authenticated. Please log in to view tickets.";
            return Ok(vec![dict! {"error" => text}].into());
        }
        let mut tickets = Vec::new();
        for ticket in self.ticket_queue.iterate()? {
            if eq(&ticket.item(&"created_by".into())?, &self.current_user) {
                tickets.push(ticket);
            }
        }
        if !status.truthy() {
            return Ok(tickets.into());
        }
        let mut wanted = Vec::new();
        for ticket in tickets {
            let found = ticket
                .item(&"status".into())?
                .text_for("lower")?
                .to_lowercase();
            if found == status.text_for("lower")?.to_lowercase() {
                wanted.push(ticket);
            }
        }
        Ok(wanted.into())
    }
}

fn greater(a: &Py, b: &Py) -> Reply<bool> {
    let order = crate::bfcl::py::compare(a, b, ">")?;
    Ok(order == Some(std::cmp::Ordering::Greater))
}
