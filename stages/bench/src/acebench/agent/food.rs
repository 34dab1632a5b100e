//! Food delivery: users with balances, merchants with menus, orders.

use starling_text::json;

use super::phone::{Switches, contains_lower, found_or};
use super::python::{
    Given, Raised, Returned, bind_all, calculate, dict, get, greater, has, key, lower, set,
    type_name,
};
use super::start::Start;
use crate::acebench::Lang;
use crate::acebench::expr::{BinaryOp, Kind, Value, equal, lookup};

/// The delivery service.
#[derive(Debug, Clone)]
pub(super) struct Food {
    lang: Lang,
    switches: Switches,
    pub(super) users: Value<'static>,
    pub(super) logged_in_users: Vec<Value<'static>>,
    pub(super) orders: Vec<Value<'static>>,
}

impl Food {
    pub(super) fn new(start: &Start, lang: Lang, config: &json::Value) -> Self {
        let logged_in = config
            .get("logged_in_users")
            .and_then(json::Value::as_list)
            .unwrap_or_default();
        Self {
            lang,
            switches: Switches::new(config),
            users: start.part("food_users"),
            logged_in_users: logged_in.iter().map(Value::from_json).collect(),
            orders: Vec::new(),
        }
    }

    pub(super) fn call(&mut self, start: &Start, method: &str, given: &Given) -> Option<Returned> {
        let name = format!("FoodPlatform.{method}");
        Some(match method {
            "login_food_platform" => bind_all(&name, ["username", "password"], given)
                .and_then(|[user, password]| self.login(start, &user, &password)),
            "view_logged_in_users" => bind_all(&name, [], given).and_then(|[]| {
                found_or(
                    start,
                    self.logged_in_users.clone(),
                    "logged_in_users",
                    "nobody_in",
                )
            }),
            "check_balance" => {
                bind_all(&name, ["user_name"], given).and_then(|[user]| self.balance(&user))
            }
            "add_food_delivery_order" => {
                bind_all(&name, ["username", "merchant_name", "items"], given)
                    .and_then(|[user, merchant, items]| self.order(start, &user, &merchant, &items))
            }
            "get_products" => bind_all(&name, ["merchant_name"], given).and_then(|[merchant]| {
                match start.entry("merchants", key(&merchant)?) {
                    Some(menu) => Ok(menu.clone()),
                    None => start.answer(false, "no_merchant", &[&merchant]),
                }
            }),
            "view_orders" => bind_all(&name, ["user_name"], given).and_then(|[user]| {
                let own = self
                    .orders
                    .iter()
                    .filter(|order| has(order, "user_name", &user));
                found_or(start, own.cloned().collect(), "orders", "no_orders")
            }),
            "search_orders" => bind_all(&name, ["keyword"], given)
                .and_then(|[keyword]| self.search(start, &keyword)),
            _ => return self.switches.call(start, method, given),
        })
    }

    /// Brings the list of an answer up to date.
    pub(super) fn refresh(&self, method: &str, answer: &mut Value<'static>) {
        if method == "view_logged_in_users" && get(answer, "logged_in_users").is_ok() {
            let users = Value::List(self.logged_in_users.clone());
            set(answer, "logged_in_users", users);
        }
    }

    fn user(&self, name: &Value<'static>) -> Result<Option<&Value<'static>>, Raised> {
        let name = key(name)?;
        match &self.users {
            Value::Dict(users) => Ok(lookup(users, name)),
            _ => Ok(None),
        }
    }

    fn login(
        &mut self,
        start: &Start,
        name: &Value<'static>,
        password: &Value<'static>,
    ) -> Returned {
        if self.switches.no_wifi() {
            return start.refuse("food_no_wifi");
        }
        let Some(user) = self.user(name)? else {
            return start.refuse("user_unknown");
        };
        if !has(user, "password", password) {
            return start.refuse("wrong_password");
        }
        if self.logged_in_users.iter().any(|known| equal(known, name)) {
            return start.answer(false, "already_in", &[name]);
        }
        self.logged_in_users.push(name.clone());
        start.answer(true, "logged_in", &[name])
    }

    fn balance(&self, name: &Value<'static>) -> Returned {
        match self.user(name)? {
            Some(user) => get(user, "balance").cloned(),
            None => Ok(Value::Float(0.0)),
        }
    }

    fn order(
        &mut self,
        start: &Start,
        user: &Value<'static>,
        merchant: &Value<'static>,
        items: &Value<'static>,
    ) -> Returned {
        if !self.logged_in_users.iter().any(|known| equal(known, user)) {
            return start.answer(false, "not_in", &[user]);
        }
        let Some(Value::List(menu)) = start.entry("merchants", key(merchant)?) else {
            return start.refuse("merchant_unknown");
        };
        let mut total = Value::Float(0.0);
        let mut ordered = Vec::new();
        for item in iterate(items)? {
            let Value::Dict(item) = &item else {
                let kind = type_name(&item);
                return Err(Raised(format!("'{kind}' object has no attribute 'get'")));
            };
            let product = lookup(item, &Value::text("product"))
                .cloned()
                .unwrap_or(Value::None);
            let quantity = lookup(item, &Value::text("quantity"))
                .cloned()
                .unwrap_or(Value::Int(1));
            let whole = matches!(quantity.kind(), Kind::Int | Kind::Bool);
            if !whole || !greater(&quantity, &Value::Int(0))? {
                return start.answer(false, "bad_quantity", &[&quantity, &product]);
            }
            let Some(offer) = menu.iter().find(|offer| has(offer, "product", &product)) else {
                return start.answer(false, "product_unknown", &[&product, merchant]);
            };
            let price = get(offer, "price")?;
            total = calculate(
                BinaryOp::Add,
                &total,
                &calculate(BinaryOp::Mul, price, &quantity)?,
            )?;
            ordered.push(dict([
                ("product", product),
                ("quantity", quantity),
                ("price_per_unit", price.clone()),
            ]));
        }
        self.pay(start, user, merchant, ordered, total)
    }

    fn pay(
        &mut self,
        start: &Start,
        user: &Value<'static>,
        merchant: &Value<'static>,
        items: Vec<Value<'static>>,
        total: Value<'static>,
    ) -> Returned {
        let balance = get(self.user(user)?.unwrap_or(&Value::None), "balance")?.clone();
        // The Chinese service wants a little to be left over.
        let all_of_it = self.lang == Lang::Zh && equal(&total, &balance);
        if all_of_it || greater(&total, &balance)? {
            return start.refuse("too_expensive");
        }
        let left = calculate(BinaryOp::Sub, &balance, &total)?;
        if let Value::Dict(users) = &mut self.users
            && let Some((_, record)) = users.iter_mut().find(|(name, _)| equal(name, user))
        {
            set(record, "balance", left);
        }
        self.orders.push(dict([
            ("user_name", user.clone()),
            ("merchant_name", merchant.clone()),
            ("items", Value::List(items)),
            ("total_price", total.clone()),
        ]));
        start.answer(true, "ordered", &[merchant, &total])
    }

    fn search(&self, start: &Start, keyword: &Value<'static>) -> Returned {
        let mut found = Vec::new();
        for order in &self.orders {
            let mut hit = contains_lower(get(order, "merchant_name")?, keyword)?;
            if let Value::List(items) = get(order, "items")? {
                for item in items {
                    if hit {
                        break;
                    }
                    // The Chinese service looks into the item itself, which is no text.
                    hit = match self.lang {
                        Lang::En => contains_lower(get(item, "product")?, keyword)?,
                        Lang::Zh => lower(item).map(|_| false)?,
                    };
                }
            }
            if hit {
                found.push(order.clone());
            }
        }
        found_or(start, found, "orders", "no_order_match")
    }
}

/// The items of a `for` loop over a value.
fn iterate(value: &Value<'static>) -> Result<Vec<Value<'static>>, Raised> {
    match value {
        Value::List(items) | Value::Tuple(items) => Ok(items.clone()),
        Value::Dict(entries) => Ok(entries.iter().map(|(key, _)| key.clone()).collect()),
        Value::Str(text) => Ok(text
            .chars()
            .map(|c| Value::Str(c.to_string().into()))
            .collect()),
        Value::Bytes(bytes) => Ok(bytes
            .iter()
            .map(|&byte| Value::Int(i64::from(byte)))
            .collect()),
        other => Err(Raised(format!(
            "'{}' object is not iterable",
            type_name(other)
        ))),
    }
}
