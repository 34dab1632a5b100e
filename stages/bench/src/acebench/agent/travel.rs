//! Flights: users with two balances, a timetable, reservations.

use super::python::{
    Given, Raised, Returned, bind, bind_all, calculate, dict, get, greater, has, key, set, text,
};
use super::start::Start;
use crate::acebench::expr::{BinaryOp, Value, equal, lookup, truthy};

/// The back end's clock: 14 July 2024, six in the morning, in the timetable's writing.
const NOW: &str = "2024-07-14 06:00:00";
/// One day later: what leaves after this can be cancelled for free.
const TOMORROW: &str = "2024-07-15 06:00:00";
/// What a bag beyond the free ones costs.
const BAG: i64 = 50;

/// The airline.
#[derive(Debug, Clone)]
pub(super) struct Travel {
    pub(super) users: Value<'static>,
    flights: Vec<Value<'static>>,
    pub(super) reservations: Vec<Value<'static>>,
}

impl Travel {
    pub(super) fn new(start: &Start) -> Self {
        Self {
            users: start.part("travel_users"),
            flights: start.list("flights"),
            reservations: start.list("reservations"),
        }
    }

    pub(super) fn call(&mut self, start: &Start, method: &str, given: &Given) -> Option<Returned> {
        let name = format!("Travel.{method}");
        Some(match method {
            "get_flight_details" => bind(&name, ["origin", "destination"], 0, given)
                .and_then(|[origin, destination]| self.flight_details(start, origin, destination)),
            "get_user_details" => bind_all(&name, ["user_id", "password"], given)
                .and_then(|[user, password]| self.user_details(start, &user, &password)),
            "get_reservation_details" => bind(&name, ["reservation_id", "user_id"], 0, given)
                .and_then(|[reservation, user]| self.reservation_details(start, reservation, user)),
            "authenticate_user" => bind_all(&name, ["user_id", "password"], given)
                .and_then(|[user, password]| self.authenticate(start, &user, &password)),
            "get_baggage_allowance" => bind_all(&name, ["membership_level", "cabin_class"], given)
                .and_then(|[level, cabin]| {
                    Ok(Value::Int(allowance(start, &level, &cabin)?.unwrap_or(0)))
                }),
            "find_transfer_flights" => bind_all(
                &name,
                ["origin_city", "transfer_city", "destination_city"],
                given,
            )
            .and_then(|[origin, transfer, destination]| {
                self.transfers(start, &origin, &transfer, &destination)
            }),
            "calculate_baggage_fee" => bind_all(
                &name,
                ["membership_level", "cabin_class", "baggage_count"],
                given,
            )
            .and_then(|[level, cabin, count]| baggage_fee(start, &level, &cabin, &count)),
            "update_balance" => bind_all(&name, ["user", "payment_method", "amount"], given)
                .and_then(|[user, method, amount]| covers(&user, &method, &amount)),
            "reserve_flight" => bind_all(
                &name,
                [
                    "user_id",
                    "password",
                    "flight_no",
                    "cabin",
                    "payment_method",
                    "baggage_count",
                ],
                given,
            )
            .and_then(|arguments| self.reserve(start, arguments)),
            "modify_flight" => bind(
                &name,
                [
                    "user_id",
                    "reservation_id",
                    "new_flight_no",
                    "new_cabin",
                    "add_baggage",
                    "new_payment_method",
                ],
                2,
                given,
            )
            .and_then(|arguments| self.modify(start, arguments)),
            "cancel_reservation" => bind_all(&name, ["user_id", "reservation_id", "reason"], given)
                .and_then(|[user, reservation, reason]| {
                    self.cancel(start, &user, &reservation, &reason)
                }),
            "process_refund" => {
                bind_all(&name, ["user", "amount"], given).and_then(|[user, amount]| {
                    calculate(BinaryOp::Add, get(&user, "cash_balance")?, &amount)?;
                    get(&user, "user_name").map(|_| Value::None)
                })
            }
            "calculate_price_difference" => {
                bind_all(&name, ["flight", "old_cabin", "new_cabin"], given)
                    .and_then(|[flight, old, new]| price_difference(start, &flight, &old, &new))
            }
            _ => return None,
        })
    }

    /// Brings the flights and the user of an answer up to date.
    pub(super) fn refresh(&self, method: &str, answer: &mut Value<'static>) {
        let parts: &[&str] = match method {
            "authenticate_user" => return self.refresh_user(answer),
            "get_reservation_details" => &["flight_info"],
            "find_transfer_flights" => &["first_leg", "second_leg"],
            _ => return,
        };
        let Value::List(records) = answer else { return };
        for record in records {
            for part in parts {
                let known = get(record, part)
                    .ok()
                    .and_then(|flight| self.same_flight(flight));
                if let Some(flight) = known {
                    set(record, part, flight.clone());
                }
            }
        }
    }

    fn refresh_user(&self, user: &mut Value<'static>) {
        let Value::Dict(users) = &self.users else {
            return;
        };
        let Ok(name) = get(user, "user_name").cloned() else {
            return;
        };
        if let Some((_, known)) = users
            .iter()
            .find(|(_, known)| has(known, "user_name", &name))
        {
            *user = known.clone();
        }
    }

    /// The flight of the timetable that a copy was taken of. Two may share a number, on different days.
    fn same_flight(&self, copy: &Value<'static>) -> Option<&Value<'static>> {
        let same = |flight: &&Value<'static>, name: &str| {
            get(copy, name).is_ok_and(|value| has(flight, name, value))
        };
        self.flights
            .iter()
            .find(|flight| same(flight, "flight_no") && same(flight, "depart_time"))
    }

    fn user(&self, id: &Value<'static>) -> Result<Option<&Value<'static>>, Raised> {
        let id = key(id)?;
        match &self.users {
            Value::Dict(users) => Ok(lookup(users, id)),
            _ => Ok(None),
        }
    }

    fn user_mut(&mut self, id: &Value<'static>) -> Option<&mut Value<'static>> {
        match &mut self.users {
            Value::Dict(users) => users
                .iter_mut()
                .find(|(known, _)| equal(known, id))
                .map(|(_, user)| user),
            _ => None,
        }
    }

    fn flight(&self, number: &Value<'static>) -> Option<&Value<'static>> {
        self.flights
            .iter()
            .find(|flight| has(flight, "flight_no", number))
    }

    fn flight_details(
        &self,
        start: &Start,
        origin: Option<Value<'static>>,
        destination: Option<Value<'static>>,
    ) -> Returned {
        let wanted = |flight: &&Value<'static>, name: &str, city: &Option<Value<'static>>| {
            city.as_ref()
                .is_none_or(|city| !truthy(city) || has(flight, name, city))
        };
        let fitting = self.flights.iter().filter(|flight| {
            wanted(flight, "origin", &origin) && wanted(flight, "destination", &destination)
        });
        let fitting: Vec<_> = fitting.cloned().collect();
        if fitting.is_empty() {
            return Ok(text(start.text("no_flights")));
        }
        Ok(Value::List(fitting))
    }

    fn authenticate(
        &self,
        start: &Start,
        id: &Value<'static>,
        password: &Value<'static>,
    ) -> Returned {
        match self.user(id)? {
            Some(user) if has(user, "password", password) => Ok(user.clone()),
            _ => Ok(error(start.text("bad_login"))),
        }
    }

    fn user_details(
        &self,
        start: &Start,
        id: &Value<'static>,
        password: &Value<'static>,
    ) -> Returned {
        let mut user = self.authenticate(start, id, password)?;
        if let Value::Dict(entries) = &mut user {
            entries.retain(|(name, _)| name.as_str() != Some("password"));
        }
        Ok(user)
    }

    fn reservation_details(
        &self,
        start: &Start,
        reservation: Option<Value<'static>>,
        user: Option<Value<'static>>,
    ) -> Returned {
        let given = |value: &Option<Value<'static>>| value.as_ref().is_some_and(truthy);
        let (name, wanted) = match (given(&reservation), given(&user)) {
            (true, _) => ("reservation_id", reservation),
            (false, true) => ("user_id", user),
            _ => return Ok(error(start.text("need_id"))),
        };
        let wanted = wanted.unwrap_or(Value::None);
        let mut detailed = Vec::new();
        for reservation in self
            .reservations
            .iter()
            .filter(|reservation| has(reservation, name, &wanted))
        {
            let flight = self.flight(get(reservation, "flight_no")?).cloned();
            let mut reservation = reservation.clone();
            set(
                &mut reservation,
                "flight_info",
                flight.unwrap_or(Value::None),
            );
            detailed.push(reservation);
        }
        Ok(Value::List(detailed))
    }

    /// Pairs of flights, the second leaving after the first has arrived.
    fn transfers(
        &self,
        start: &Start,
        origin: &Value<'static>,
        transfer: &Value<'static>,
        destination: &Value<'static>,
    ) -> Returned {
        let legs = |from: &Value<'static>, to: &Value<'static>| -> Vec<&Value<'static>> {
            let flies = |flight: &&Value<'static>| {
                has(flight, "origin", from) && has(flight, "destination", to) && available(flight)
            };
            self.flights.iter().filter(flies).collect()
        };
        let mut pairs = Vec::new();
        for first in legs(origin, transfer) {
            for second in legs(transfer, destination) {
                if time(first, "arrival_time")? < time(second, "depart_time")? {
                    pairs.push(dict([
                        ("first_leg", first.clone()),
                        ("second_leg", second.clone()),
                    ]));
                }
            }
        }
        if pairs.is_empty() {
            return Ok(text(start.text("no_transfers")));
        }
        Ok(Value::List(pairs))
    }

    fn reserve(&mut self, start: &Start, arguments: [Value<'static>; 6]) -> Returned {
        let [user_id, password, number, cabin, payment, bags] = arguments;
        // A failed login gives a record too, and is noticed only where a field is missing.
        let user = self.authenticate(start, &user_id, &password)?;
        let fits = |flight: &Value<'static>| has(flight, "flight_no", &number) && available(flight);
        let place = self.flights.iter().position(fits);
        let place =
            place.ok_or_else(|| Raised("'NoneType' object is not subscriptable".to_owned()))?;
        let price = price(start, &self.flights[place], &cabin)?.clone();
        let fee = baggage_fee(start, get(&user, "membership_level")?, &cabin, &bags)?;
        let cost = calculate(BinaryOp::Add, &price, &fee)?;
        let (balance, refusal) = match payment.as_str() {
            Some("cash") => ("cash_balance", "no_cash"),
            Some("bank") => ("bank_balance", "no_bank"),
            _ => return Ok(text(start.text("bad_payment"))),
        };
        let account = self
            .user_mut(&user_id)
            .ok_or_else(|| Raised("no such user".to_owned()))?;
        let before = get(account, balance)?.clone();
        if greater(&cost, &before)? {
            return Ok(text(start.text(refusal)));
        }
        set(account, balance, calculate(BinaryOp::Sub, &before, &cost)?);
        let flight = &mut self.flights[place];
        let seats = calculate(
            BinaryOp::Sub,
            get(flight, "seats_available")?,
            &Value::Int(1),
        )?;
        set(flight, "seats_available", seats);
        let id = text(format!("res_{}", self.reservations.len() + 1));
        self.reservations.push(dict([
            ("reservation_id", id.clone()),
            ("user_id", user_id),
            ("flight_no", number),
            ("payment_method", payment),
            ("cabin", cabin),
            ("baggage", bags),
        ]));
        Ok(text(start.fill("booked", &[&id, &cost])?))
    }

    /// Changes flight, cabin and baggage in this order; what was changed stays changed when a later step
    /// raises.
    fn modify(&mut self, start: &Start, arguments: [Option<Value<'static>>; 6]) -> Returned {
        let [user_id, reservation_id, number, cabin, bags, payment] = arguments;
        let (user_id, reservation_id) = (
            user_id.unwrap_or(Value::None),
            reservation_id.unwrap_or(Value::None),
        );
        let Some(place) = self.reservation(&user_id, &reservation_id) else {
            return Ok(text(start.text("no_reservation")));
        };
        let Some(flight) = self
            .flight(get(&self.reservations[place], "flight_no")?)
            .cloned()
        else {
            return Ok(text(start.text("no_flight")));
        };
        let given = |value: Option<Value<'static>>| value.filter(truthy);
        let payment = match given(payment) {
            Some(payment) => payment,
            None => get(&self.reservations[place], "payment_method")?.clone(),
        };
        let mut messages = Vec::new();
        if let Some(number) =
            given(number).filter(|number| !has(&self.reservations[place], "flight_no", number))
        {
            let same_route = |new: &&Value<'static>| {
                ["origin", "destination"]
                    .iter()
                    .all(|city| get(&flight, city).is_ok_and(|value| has(new, city, value)))
            };
            if self.flight(&number).filter(same_route).is_none() {
                return Ok(text(start.text("flight_not_changed")));
            }
            set(&mut self.reservations[place], "flight_no", number);
            messages.push(start.text("flight_changed").to_owned());
        }
        if let Some(cabin) =
            given(cabin).filter(|cabin| !has(&self.reservations[place], "cabin", cabin))
        {
            messages.extend(self.change_cabin(start, place, &flight, &user_id, cabin, &payment)?);
        }
        let bags = bags.unwrap_or(Value::Int(0));
        if greater(&bags, &Value::Int(0))? {
            messages.extend(self.add_baggage(start, place, &user_id, &bags, &payment)?);
        }
        if messages.is_empty() {
            messages.push(start.text("nothing_changed").to_owned());
        }
        Ok(text(messages.join(" ")))
    }

    fn reservation(&self, user_id: &Value<'static>, id: &Value<'static>) -> Option<usize> {
        let fits = |reservation: &Value<'static>| {
            has(reservation, "reservation_id", id) && has(reservation, "user_id", user_id)
        };
        self.reservations.iter().position(fits)
    }

    fn change_cabin(
        &mut self,
        start: &Start,
        place: usize,
        flight: &Value<'static>,
        user_id: &Value<'static>,
        cabin: Value<'static>,
        payment: &Value<'static>,
    ) -> Result<Option<String>, Raised> {
        let zero = Value::Int(0);
        let old = get(&self.reservations[place], "cabin")?;
        let difference = price_difference(start, flight, old, &cabin)?;
        set(&mut self.reservations[place], "cabin", cabin);
        let negative = calculate(BinaryOp::Sub, &zero, &difference)?;
        if greater(&difference, &zero)? {
            let paid = self.pay(user_id, payment, &negative)?;
            let text = if paid {
                "cabin_paid"
            } else {
                "cabin_too_expensive"
            };
            return start.fill(text, &[&difference]).map(Some);
        }
        if greater(&zero, &difference)? {
            self.pay(user_id, payment, &negative)?;
            return start.fill("cabin_refunded", &[&negative]).map(Some);
        }
        Ok(None)
    }

    fn add_baggage(
        &mut self,
        start: &Start,
        place: usize,
        user_id: &Value<'static>,
        bags: &Value<'static>,
        payment: &Value<'static>,
    ) -> Result<Option<String>, Raised> {
        let zero = Value::Int(0);
        let level = get(
            self.user(user_id)?.unwrap_or(&Value::None),
            "membership_level",
        )?
        .clone();
        let free = allowance(start, &level, get(&self.reservations[place], "cabin")?)?.unwrap_or(0);
        let before = get(&self.reservations[place], "baggage")
            .cloned()
            .unwrap_or(Value::Int(0));
        let total = calculate(BinaryOp::Add, &before, bags)?;
        let cost = fee(&total, free)?;
        let mut message = None;
        if greater(&cost, &zero)? {
            let paid = self.pay(user_id, payment, &calculate(BinaryOp::Sub, &zero, &cost)?)?;
            let text = if paid {
                "baggage_added"
            } else {
                "baggage_too_expensive"
            };
            message = Some(start.fill(text, &[&cost])?);
        }
        set(&mut self.reservations[place], "baggage", total);
        Ok(message)
    }

    /// Adds an amount to a balance unless that would leave less than nothing. With a payment method that
    /// is none it does nothing and is content.
    fn pay(
        &mut self,
        user_id: &Value<'static>,
        payment: &Value<'static>,
        amount: &Value<'static>,
    ) -> Result<bool, Raised> {
        let name = match payment.as_str() {
            Some("cash") => "cash_balance",
            Some("bank") => "bank_balance",
            _ => return Ok(true),
        };
        let Some(user) = self.user_mut(user_id) else {
            return Ok(true);
        };
        let after = calculate(BinaryOp::Add, get(user, name)?, amount)?;
        if greater(&Value::Int(0), &after)? {
            return Ok(false);
        }
        set(user, name, after);
        Ok(true)
    }

    /// Refunds; the reservation itself stays.
    fn cancel(
        &mut self,
        start: &Start,
        user_id: &Value<'static>,
        reservation_id: &Value<'static>,
        reason: &Value<'static>,
    ) -> Returned {
        let fixed = |name: &str| Ok(text(start.text(name)));
        if self.user(user_id)?.is_none() {
            return fixed("cancel_no_user");
        }
        let Some(place) = self.reservation(user_id, reservation_id) else {
            return fixed("cancel_no_reservation");
        };
        let reservation = &self.reservations[place];
        let Some(flight) = self.flight(get(reservation, "flight_no")?) else {
            return fixed("cancel_no_flight");
        };
        let departs = time(flight, "depart_time")?;
        if NOW > departs {
            return fixed("cancel_departed");
        }
        let price = price(start, flight, get(reservation, "cabin")?)?.clone();
        let airline = reason.as_str() == Some(start.text("airline_reason"));
        if airline || departs > TOMORROW {
            self.refund(user_id, &price)?;
            let name = if airline {
                "cancel_airline"
            } else {
                "cancel_free"
            };
            return Ok(text(start.fill(name, &[&price])?));
        }
        let fee = calculate(BinaryOp::Mul, &price, &Value::Float(0.1))?;
        let refund = calculate(BinaryOp::Sub, &price, &fee)?;
        self.refund(user_id, &refund)?;
        Ok(text(start.fill("cancel_fee", &[&fee, &refund])?))
    }

    fn refund(&mut self, user_id: &Value<'static>, amount: &Value<'static>) -> Result<(), Raised> {
        if let Some(user) = self.user_mut(user_id) {
            let after = calculate(BinaryOp::Add, get(user, "cash_balance")?, amount)?;
            set(user, "cash_balance", after);
        }
        Ok(())
    }
}

fn error(message: &str) -> Value<'static> {
    dict([("status", text("error")), ("message", text(message))])
}

fn available(flight: &Value<'static>) -> bool {
    has(flight, "status", &Value::text("available"))
}

/// A time of the timetable; written largest unit first, so that texts compare as times do.
fn time<'v>(flight: &'v Value<'static>, name: &str) -> Result<&'v str, Raised> {
    Ok(get(flight, name)?.as_str().unwrap_or_default())
}

fn known_cabin(start: &Start, cabin: &Value<'_>) -> bool {
    cabin
        .as_str()
        .is_some_and(|cabin| cabin == start.text("economy") || cabin == start.text("business"))
}

/// Whatever is not economy class costs what business class costs.
fn price<'v>(
    start: &Start,
    flight: &'v Value<'static>,
    cabin: &Value<'_>,
) -> Result<&'v Value<'static>, Raised> {
    let economy = cabin.as_str() == Some(start.text("economy"));
    get(
        flight,
        if economy {
            "economy_price"
        } else {
            "business_price"
        },
    )
}

/// Free bags, if membership and cabin are known.
fn allowance(
    start: &Start,
    level: &Value<'static>,
    cabin: &Value<'static>,
) -> Result<Option<i64>, Raised> {
    let base = match key(level)?.as_str() {
        Some("regular") => 1,
        Some("silver") => 2,
        Some("gold") => 3,
        _ => {
            key(cabin)?;
            return Ok(None);
        }
    };
    if !known_cabin(start, key(cabin)?) {
        return Ok(None);
    }
    let business = cabin.as_str() == Some(start.text("business"));
    // Gold members have no more in business class.
    Ok(Some(if business { (base + 1).min(3) } else { base }))
}

fn baggage_fee(
    start: &Start,
    level: &Value<'static>,
    cabin: &Value<'static>,
    count: &Value<'static>,
) -> Returned {
    match allowance(start, level, cabin)? {
        Some(free) => fee(count, free),
        None => Err(Raised("no such membership or cabin".to_owned())),
    }
}

/// `max(count - free, 0) * 50`; a count that is a float stays one where nothing is to pay.
fn fee(count: &Value<'static>, free: i64) -> Returned {
    let extra = calculate(BinaryOp::Sub, count, &Value::Int(free))?;
    let extra = if greater(&Value::Int(0), &extra)? {
        Value::Int(0)
    } else {
        extra
    };
    calculate(BinaryOp::Mul, &extra, &Value::Int(BAG))
}

/// What the second of two cabins costs more; a cabin that is none costs nothing.
fn price_difference(
    start: &Start,
    flight: &Value<'static>,
    old: &Value<'static>,
    new: &Value<'static>,
) -> Returned {
    get(flight, "economy_price").and_then(|_| get(flight, "business_price"))?;
    let known_price = |cabin: &Value<'static>| match known_cabin(start, key(cabin)?) {
        true => price(start, flight, cabin).cloned(),
        false => Ok(Value::Int(0)),
    };
    let old = known_price(old)?;
    calculate(BinaryOp::Sub, &known_price(new)?, &old)
}

/// The balance helper called from outside, on a record that was written into the call: whether its balance
/// covers the amount. With a payment method that is none it looks at nothing and is content.
fn covers(user: &Value<'static>, method: &Value<'static>, amount: &Value<'static>) -> Returned {
    let name = match method.as_str() {
        Some("cash") => "cash_balance",
        Some("bank") => "bank_balance",
        _ => return Ok(Value::Bool(true)),
    };
    let after = calculate(BinaryOp::Add, get(user, name)?, amount)?;
    Ok(Value::Bool(!greater(&Value::Int(0), &after)?))
}
