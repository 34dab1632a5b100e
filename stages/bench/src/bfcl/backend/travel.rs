//! A travel agency: cards, flights, insurance.

use super::random::Random;
use super::strptime;
use super::{Attribute, Default as D, Setting, methods};
use crate::bfcl::number::is_digits;
use crate::bfcl::py::{
    Class, Dict, Py, Raise, Reply, add_in_place, dict, divide, eq, less, multiply, round, str,
    subtract_in_place, to_float, to_int,
};

const NAME: &str = "TravelAPI";

#[derive(Debug, Clone)]
pub(crate) struct Travel {
    credit_card_list: Py,
    booking_record: Py,
    access_token: Py,
    token_type: Py,
    token_expires_in: Py,
    token_scope: Py,
    user_first_name: Py,
    user_last_name: Py,
    budget_limit: Py,
    long_context: bool,
    random: Random,
    setting: Setting,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

/// A refusal with a flag in front.
fn refusal(flag: &'static str, text: impl Into<String>) -> Reply {
    let entries = [
        (flag.into(), false.into()),
        ("error".into(), text.into().into()),
    ];
    Ok(entries.into_iter().collect::<Dict>().into())
}

impl Travel {
    methods! {
        authenticate_travel = authenticate(
            client_id, client_secret, refresh_token, grant_type, user_first_name, user_last_name
        );
        travel_get_login_status = login_status();
        get_budget_fiscal_year = fiscal_year(lastModifiedAfter = D::None, includeRemoved = D::None);
        register_credit_card = register_card(
            access_token, card_number, expiration_date, cardholder_name, card_verification_number
        );
        get_flight_cost = flight_cost(travel_from, travel_to, travel_date, travel_class);
        get_credit_card_balance = card_balance(access_token, card_id);
        book_flight = book_flight(
            access_token, card_id, travel_date, travel_from, travel_to, travel_class
        );
        retrieve_invoice = invoice(access_token, booking_id = D::None, insurance_id = D::None);
        get_booking_history = booking_history(access_token);
        list_all_airports = airports();
        cancel_booking = cancel_booking(access_token, booking_id);
        compute_exchange_rate = exchange(base_currency, target_currency, value);
        verify_traveler_information = verify(first_name, last_name, date_of_birth, passport_number);
        set_budget_limit = set_budget(access_token, budget_limit);
        get_nearest_airport_by_city = nearest_airport(location);
        purchase_insurance = purchase_insurance(
            access_token, insurance_type, booking_id, insurance_cost, card_id
        );
        contact_customer_support = contact_support(booking_id, message);
        get_all_credit_cards = all_cards();
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let get = |key: &str| setting.tables.attribute(NAME, scenario, key, key);
        let mut travel = Self {
            credit_card_list: get("credit_card_list"),
            booking_record: get("booking_record"),
            access_token: get("access_token"),
            token_type: get("token_type"),
            token_expires_in: get("token_expires_in"),
            token_scope: get("token_scope"),
            user_first_name: get("user_first_name"),
            user_last_name: get("user_last_name"),
            budget_limit: get("budget_limit"),
            long_context: setting.long_context,
            random: Random::new(&get("random_seed")),
            setting: setting.clone(),
        };
        if setting.long_context {
            let fill = |target: &mut Py, filler: &str| -> Reply<()> {
                let filler = setting.tables.filler(filler);
                for (id, entry) in filler.dict_for("items")?.iter() {
                    if !target.contains(id)? {
                        target.set_item(id.clone(), entry.clone())?;
                    }
                }
                Ok(())
            };
            fill(&mut travel.credit_card_list, "CREDIT_CARD_EXTENSION")?;
            fill(&mut travel.booking_record, "BOOKING_RECORD_EXTENSION")?;
        }
        Ok(travel)
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("credit_card_list", Attribute::Value(&self.credit_card_list)),
            ("booking_record", Attribute::Value(&self.booking_record)),
            ("access_token", Attribute::Value(&self.access_token)),
            ("token_type", Attribute::Value(&self.token_type)),
            ("token_expires_in", Attribute::Value(&self.token_expires_in)),
            ("token_scope", Attribute::Value(&self.token_scope)),
            ("user_first_name", Attribute::Value(&self.user_first_name)),
            ("user_last_name", Attribute::Value(&self.user_last_name)),
            ("budget_limit", Attribute::Value(&self.budget_limit)),
            ("long_context", Attribute::Bool(self.long_context)),
        ]
    }

    /// Why a token does not open the secured methods.
    fn rejected(&self, token: &Py) -> Option<&'static str> {
        if eq(&self.token_expires_in, &Py::Int(0)) {
            return Some("Token expired");
        }
        (!eq(token, &self.access_token)).then_some("Invalid access token")
    }

    fn authenticate(
        &mut self,
        [_id, _secret, _refresh, grant_type, first, last]: [Py; 6],
    ) -> Reply {
        self.token_expires_in = Py::Int(2);
        self.access_token = self.random.int(100_000, 999_999).to_string().into();
        self.token_type = "Bearer".into();
        self.token_scope = grant_type.clone();
        self.user_first_name = first;
        self.user_last_name = last;
        Ok(dict! {
            "expires_in" => 2_i64,
            "access_token" => self.access_token.clone(),
            "token_type" => "Bearer",
            "scope" => grant_type,
        })
    }

    fn login_status(&mut self, []: [Py; 0]) -> Reply {
        let out = self.token_expires_in.is_none() || eq(&self.token_expires_in, &Py::Int(0));
        Ok(dict! {"status" => !out})
    }

    fn fiscal_year(&mut self, [_after, _removed]: [Py; 2]) -> Reply {
        Ok(dict! {"budget_fiscal_year" => "2018"})
    }

    fn register_card(&mut self, [token, number, expires, holder, code]: [Py; 5]) -> Reply {
        if self.token_expires_in.is_none() {
            return error("Token not initialized");
        }
        if let Some(text) = self.rejected(&token) {
            return error(text);
        }
        // Numbers are looked up among ids, so that the same card can be registered again.
        if self.credit_card_list.contains(&number)? {
            return error("Card already registered");
        }
        let id = Py::from(
            self.random
                .int(100_000_000_000, 999_999_999_999)
                .to_string(),
        );
        let card = dict! {
            "card_number" => number,
            "expiration_date" => expires,
            "cardholder_name" => holder,
            "card_verification_number" => code,
            "balance" => self.random.int(10_000, 99_999),
        };
        self.credit_card_list.set_item(id.clone(), card)?;
        Ok(dict! {"card_id" => id})
    }

    fn no_route() -> Raise {
        Raise::value_error("No available route for the given airports.")
    }

    /// The factor on base costs, or a refusal; routes are checked first.
    fn cost_factor(&self, from: &Py, to: &Py, date: &Py, class: &Py) -> Reply<(Py, f64)> {
        from.require_hashable()?;
        to.require_hashable()?;
        let table = self.setting.tables.table(NAME, "flight_base_cost");
        let base = base_cost(&table, from, to)?.ok_or_else(Self::no_route)?;
        let factor = match class.as_str() {
            Some("economy") => 1.0,
            Some("business") => 2.0,
            Some("first") => 5.0,
            _ => {
                let text = "Invalid travel class. Options are: economy, business, first.";
                return Err(Raise::value_error(text));
            }
        };
        let mut is_odd = false;
        // The characters of a text; but a list of texts passes, too, and then its items are whole numbers.
        for item in date.iterate()? {
            if is_digits(item.text_for("isdigit")?) {
                is_odd ^= match to_int(&item)? {
                    Py::Int(int) => int % 2 != 0,
                    Py::Big(int) => int.bit(0),
                    _ => false,
                };
            }
        }
        Ok((base, factor * if is_odd { 1.0 } else { 2.0 }))
    }

    fn flight_cost(&mut self, [from, to, date, class]: [Py; 4]) -> Reply {
        let (base, factor) = self.cost_factor(&from, &to, &date, &class)?;
        let costs = if self.long_context {
            let table = self.setting.tables.table(NAME, "flight_base_cost");
            let rows = table.iterate()?.into_iter();
            rows.map(|row| multiply(&row.item(&Py::Int(2))?, &Py::Float(factor)))
                .collect::<Reply<Vec<Py>>>()?
        } else {
            vec![multiply(&base, &Py::Float(factor))?]
        };
        Ok(dict! {"travel_cost_list" => costs})
    }

    fn card_balance(&mut self, [token, card_id]: [Py; 2]) -> Reply {
        if let Some(text) = self.rejected(&token) {
            return error(text);
        }
        if !self.credit_card_list.contains(&card_id)? {
            let ids: Vec<Py> = self
                .credit_card_list
                .dict_for("keys")?
                .keys()
                .cloned()
                .collect();
            let ids = str(&ids.into());
            return error(format!(
                "Card not registered. Here are a list of card_id's: {ids}"
            ));
        }
        let balance = self
            .credit_card_list
            .item(&card_id)?
            .item(&"balance".into())?;
        Ok(dict! {"card_balance" => balance})
    }

    fn book_flight(&mut self, [token, card_id, date, from, to, class]: [Py; 6]) -> Reply {
        const FLAG: &str = "booking_status";
        if let Some(text) = self.rejected(&token) {
            return refusal(FLAG, text);
        }
        if !self.credit_card_list.contains(&card_id)? {
            return refusal(FLAG, "Card not registered");
        }
        let balance_key = Py::from("balance");
        if !self
            .credit_card_list
            .item(&card_id)?
            .contains(&balance_key)?
        {
            return refusal(FLAG, "Balance not found");
        }
        let airports = self.setting.tables.table(NAME, "airports");
        if !airports.contains(&from)? {
            return refusal(
                FLAG,
                format!("Invalid departure airport code: {}", str(&from)),
            );
        }
        if !airports.contains(&to)? {
            return refusal(
                FLAG,
                format!("Invalid destination airport code: {}", str(&to)),
            );
        }
        match strptime::date(&date) {
            Err(raise) if raise.class == Class::Value => {
                return refusal(FLAG, "Invalid date format. Use YYYY-MM-DD.");
            }
            result => result?,
        };
        class.require_hashable()?;
        if !["economy", "business", "first"]
            .iter()
            .any(|known| class.is(known))
        {
            // Python writes a set here, in an order that changes from run to run.
            let text = "Invalid travel class. Must be one of {'economy', 'business', 'first'}";
            return refusal(FLAG, text);
        }
        let cost = match self.cost_factor(&from, &to, &date, &class) {
            Ok((base, factor)) => multiply(&base, &Py::Float(factor))?,
            Err(raise) if raise.class == Class::Value => return refusal(FLAG, raise.text),
            Err(raise) => return Err(raise),
        };
        let balance = self.credit_card_list.item(&card_id)?.item(&balance_key)?;
        if less(&balance, &cost)? {
            return refusal(FLAG, "Insufficient funds");
        }
        if !self.budget_limit.is_none() && less(&balance, &self.budget_limit)? {
            return refusal(FLAG, "Balance is less than budget limit");
        }
        let balance = subtract_in_place(&balance, &cost)?;
        self.set_balance(&card_id, balance)?;
        let booking_id = Py::from(self.random.int(1_000_000, 9_999_999).to_string());
        let transaction_id = Py::from(self.random.int(10_000_000, 99_999_999).to_string());
        let booking = dict! {
            "card_id" => card_id,
            "travel_date" => date,
            "travel_from" => from,
            "travel_to" => to,
            "travel_class" => class,
            "travel_cost" => cost,
            "transaction_id" => transaction_id.clone(),
        };
        self.booking_record.set_item(booking_id.clone(), booking)?;
        let history = match self.long_context {
            true => self.booking_record.clone(),
            false => dict! {},
        };
        Ok(dict! {
            "booking_id" => booking_id,
            "transaction_id" => transaction_id,
            "booking_status" => true,
            "booking_history" => history,
        })
    }

    fn set_balance(&mut self, card_id: &Py, balance: Py) -> Reply<()> {
        self.credit_card_list
            .change_item(card_id, |card| card.set_item("balance".into(), balance))
    }

    fn invoice(&mut self, [token, booking_id, _insurance_id]: [Py; 3]) -> Reply {
        if let Some(text) = self.rejected(&token) {
            return error(text);
        }
        if !self.booking_record.contains(&booking_id)? {
            return error("Booking not found");
        }
        let booking = self.booking_record.item(&booking_id)?;
        let mut invoice = dict! {"booking_id" => booking_id};
        for key in [
            "travel_date",
            "travel_from",
            "travel_to",
            "travel_class",
            "travel_cost",
            "transaction_id",
        ] {
            invoice.set_item(key.into(), booking.item(&key.into())?)?;
        }
        Ok(dict! {"invoice" => invoice})
    }

    fn booking_history(&mut self, [token]: [Py; 1]) -> Reply {
        match self.rejected(&token) {
            Some(text) => error(text),
            None => Ok(dict! {"booking_history" => self.booking_record.clone()}),
        }
    }

    fn airports(&mut self, []: [Py; 0]) -> Reply {
        Ok(self.setting.tables.table(NAME, "airports"))
    }

    fn cancel_booking(&mut self, [token, booking_id]: [Py; 2]) -> Reply {
        const FLAG: &str = "cancel_status";
        if let Some(text) = self.rejected(&token) {
            return refusal(FLAG, text);
        }
        if !self.booking_record.contains(&booking_id)? {
            return refusal(FLAG, "Booking not found");
        }
        let booking = self.booking_record.item(&booking_id)?;
        let card_id = booking.item(&"card_id".into())?;
        let cost = booking.item(&"travel_cost".into())?;
        let balance = self
            .credit_card_list
            .item(&card_id)?
            .item(&"balance".into())?;
        let balance = add_in_place(&balance, &cost)?;
        self.set_balance(&card_id, balance)?;
        if let Py::Dict(record) = &mut self.booking_record {
            std::sync::Arc::make_mut(record).remove(&booking_id);
        }
        Ok(dict! {"cancel_status" => true})
    }

    fn exchange(&mut self, [base, target, value]: [Py; 3]) -> Reply {
        for row in self
            .setting
            .tables
            .table(NAME, "exchange_rates")
            .iterate()?
        {
            let cell = |at: i64| row.item(&Py::Int(at));
            let (from, to, rate) = (cell(0)?, cell(1)?, cell(2)?);
            if eq(&base, &from) && eq(&target, &to) {
                return Ok(dict! {"exchanged_value" => to_float(&multiply(&value, &rate)?)?});
            }
            if eq(&base, &to) && eq(&target, &from) {
                return Ok(
                    dict! {"exchanged_value" => round(&divide(&value, &rate)?, &Py::Int(2))?},
                );
            }
        }
        Err(Raise::value_error(
            "No available exchange rate for the given currencies.",
        ))
    }

    fn verify(&mut self, [first, last, birth, passport]: [Py; 4]) -> Reply {
        let failure = |text: String| {
            Ok(dict! {"verification_status" => false, "verification_failure" => text})
        };
        if !eq(&self.user_first_name, &first) || !eq(&self.user_last_name, &last) {
            return failure(format!(
                "Cannot book flight information for another user.Expected {} {}, got {} {}",
                str(&self.user_first_name),
                str(&self.user_last_name),
                str(&first),
                str(&last)
            ));
        }
        let (year, month, day) = match strptime::date(&birth) {
            Err(raise) if raise.class == Class::Value => {
                let text = "Invalid date of birth format. Please use YYYY-MM-DD.";
                return failure(text.to_owned());
            }
            result => result?,
        };
        let today = self.setting.today;
        let before_birthday = (today.month, today.day) < (month, day);
        if today.year - year - i64::from(before_birthday) < 18 {
            return failure("Traveler must be at least 18 years old.".to_owned());
        }
        if !passport.text_for("startswith")?.starts_with("US") {
            return failure("Passport must be issued by the United States.".to_owned());
        }
        Ok(dict! {"verification_status" => true})
    }

    fn set_budget(&mut self, [token, limit]: [Py; 2]) -> Reply {
        if let Some(text) = self.rejected(&token) {
            return error(text);
        }
        self.budget_limit = Py::Float(to_float(&limit)?);
        Ok(dict! {"budget_limit" => self.budget_limit.clone()})
    }

    fn nearest_airport(&mut self, [location]: [Py; 1]) -> Reply {
        let table = self.setting.tables.table(NAME, "airport_by_city");
        let airport = table.dict_for("get")?.get(&location)?.cloned();
        Ok(dict! {"nearest_airport" => airport.unwrap_or_else(|| "Unknown".into())})
    }

    fn purchase_insurance(&mut self, [token, _kind, booking_id, cost, card_id]: [Py; 5]) -> Reply {
        const FLAG: &str = "insurance_status";
        if let Some(text) = self.rejected(&token) {
            return refusal(FLAG, text);
        }
        if !self.budget_limit.is_none() && less(&self.budget_limit, &cost)? {
            return refusal(FLAG, "Exceeded budget limit");
        }
        if !self.booking_record.contains(&booking_id)? {
            return refusal(FLAG, "Booking not found");
        }
        if !self.credit_card_list.contains(&card_id)? {
            return refusal(FLAG, "Credit card not registered");
        }
        let balance = self
            .credit_card_list
            .item(&card_id)?
            .item(&"balance".into())?;
        let balance = subtract_in_place(&balance, &cost)?;
        self.set_balance(&card_id, balance)?;
        let id = self.random.int(100_000_000, 999_999_999).to_string();
        Ok(dict! {"insurance_id" => id, "insurance_status" => true})
    }

    fn contact_support(&mut self, [booking_id, _message]: [Py; 2]) -> Reply {
        if !self.booking_record.contains(&booking_id)? {
            return error("Booking not found");
        }
        let text = "Thank you for contacting customer support. Your message has been received and we will \
            get back to you shortly.";
        Ok(dict! {"customer_support_message" => text})
    }

    fn all_cards(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"credit_card_list" => self.credit_card_list.clone()})
    }
}

/// The base cost of a route.
fn base_cost(table: &Py, from: &Py, to: &Py) -> Reply<Option<Py>> {
    for row in table.iterate()? {
        if eq(&row.item(&Py::Int(0))?, from) && eq(&row.item(&Py::Int(1))?, to) {
            return Ok(Some(row.item(&Py::Int(2))?));
        }
    }
    Ok(None)
}
