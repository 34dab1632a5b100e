//! A broker: orders, funds, a watch list.

use super::random::Random;
use super::strptime::{Instant, instant, midnight};
use super::{Attribute, Default as D, Setting, methods};
use crate::bfcl::number::is_digits;
use crate::bfcl::py::{
    Class, Dict, Py, Raise, Reply, abs, add_in_place, dict, less_equal, multiply, str,
    subtract_in_place, to_float, to_int,
};

const NAME: &str = "TradingBot";

#[derive(Debug, Clone)]
pub(crate) struct Trading {
    orders: Py,
    account_info: Py,
    authenticated: Py,
    market_status: Py,
    order_counter: Py,
    stocks: Py,
    watch_list: Py,
    transaction_history: Py,
    long_context: bool,
    random: Random,
    setting: Setting,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

fn status(text: impl Into<String>) -> Reply {
    Ok(dict! {"status" => text.into()})
}

impl Trading {
    methods! {
        get_current_time = current_time();
        get_symbol_by_name = symbol_by_name(name);
        get_stock_info = stock_info(symbol);
        get_order_details = order_details(order_id);
        cancel_order = cancel_order(order_id);
        place_order = place_order(order_type, symbol, price, amount);
        withdraw_funds = withdraw(amount);
        get_account_info = account();
        trading_login = login(username, password);
        trading_get_login_status = login_status();
        trading_logout = logout();
        fund_account = fund(amount);
        remove_stock_from_watchlist = remove_from_watchlist(symbol);
        get_watchlist = watchlist();
        get_order_history = order_history();
        get_transaction_history = transactions(start_date = D::None, end_date = D::None);
        get_available_stocks = available_stocks(sector);
        filter_stocks_by_price = filter_by_price(stocks, min_price, max_price);
        add_to_watchlist = add_to_watchlist(stock);
        notify_price_change = notify(stocks, threshold);
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let get = |key: &str| setting.tables.attribute(NAME, scenario, key, key);
        let mut orders = Dict::default();
        for (key, order) in get("orders").dict_for("items")?.iter() {
            let is_number = key.as_str().is_some_and(is_digits);
            let key = if is_number { to_int(key)? } else { key.clone() };
            orders.insert(key, order.clone())?;
        }
        let seed = match scenario {
            Py::Dict(scenario) => scenario.get_str("random_seed").cloned(),
            _ => None,
        };
        Ok(Self {
            orders: orders.into(),
            account_info: get("account_info"),
            authenticated: get("authenticated"),
            market_status: get("market_status"),
            order_counter: get("order_counter"),
            stocks: get("stocks"),
            watch_list: get("watch_list"),
            transaction_history: get("transaction_history"),
            long_context: setting.long_context,
            random: Random::new(&seed.unwrap_or(Py::Int(1_053_520))),
            setting: setting.clone(),
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("orders", Attribute::Value(&self.orders)),
            ("account_info", Attribute::Value(&self.account_info)),
            ("authenticated", Attribute::Value(&self.authenticated)),
            ("market_status", Attribute::Value(&self.market_status)),
            ("order_counter", Attribute::Value(&self.order_counter)),
            ("stocks", Attribute::Value(&self.stocks)),
            ("watch_list", Attribute::Value(&self.watch_list)),
            (
                "transaction_history",
                Attribute::Value(&self.transaction_history),
            ),
            ("long_context", Attribute::Bool(self.long_context)),
        ]
    }

    /// The refusal when nobody is logged in.
    fn unauthenticated(&self, purpose: &str) -> Option<String> {
        let text = format!("User not authenticated. Please log in to {purpose}.");
        (!self.authenticated.truthy()).then_some(text)
    }

    fn current_time(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"current_time" => "10:30 AM"})
    }

    fn symbol_by_name(&mut self, [name]: [Py; 1]) -> Reply {
        let symbols = self.setting.tables.table(NAME, "symbol_by_name");
        let symbol = symbols.dict_for("get")?.get(&name)?.cloned();
        Ok(dict! {"symbol" => symbol.unwrap_or_else(|| "Stock not found".into())})
    }

    fn stock_info(&mut self, [symbol]: [Py; 1]) -> Reply {
        if !self.stocks.contains(&symbol)? {
            return error(format!("Stock with symbol '{}' not found.", str(&symbol)));
        }
        let mut stock = self.stocks.item(&symbol)?;
        if self.long_context {
            require_copy(&stock)?;
            stock.set_item("MA(5)".into(), self.setting.tables.filler("MA_5_EXTENSION"))?;
            stock.set_item(
                "MA(20)".into(),
                self.setting.tables.filler("MA_20_EXTENSION"),
            )?;
        }
        Ok(stock)
    }

    fn order_details(&mut self, [id]: [Py; 1]) -> Reply {
        if !self.orders.contains(&id)? {
            let ids: Vec<Py> = self.orders.dict_for("keys")?.keys().cloned().collect();
            let (id, ids) = (str(&id), str(&ids.into()));
            let text = format!("Order with ID {id} not found.Here is the list of orders_id: {ids}");
            return error(text);
        }
        let mut order = self.orders.item(&id)?;
        if self.long_context {
            require_copy(&order)?;
            let symbol = str(&order.item(&"symbol".into())?);
            let filler = self.setting.tables.filler("ORDER_DETAIL_EXTENSION");
            let texts = filler
                .dict_for("items")?
                .iter()
                .map(|(name, text)| (name.clone(), str(text).replace("{symbol}", &symbol).into()));
            order.set_item("metadata".into(), texts.collect::<Dict>().into())?;
        }
        Ok(order)
    }

    fn cancel_order(&mut self, [id]: [Py; 1]) -> Reply {
        if !self.orders.contains(&id)? {
            return error(format!("Order with ID {} not found.", str(&id)));
        }
        let key = Py::from("status");
        if self.orders.item(&id)?.item(&key)?.is("Completed") {
            let id = str(&id);
            return error(format!(
                "Can't cancel order {id}. Order is already completed."
            ));
        }
        self.orders
            .change_item(&id, |order| order.set_item(key, "Cancelled".into()))?;
        Ok(dict! {"order_id" => id, "status" => "Cancelled"})
    }

    fn place_order(&mut self, [order_type, symbol, price, amount]: [Py; 4]) -> Reply {
        if let Some(refusal) = self.unauthenticated("place an order") {
            return error(refusal);
        }
        if !self.stocks.contains(&symbol)? {
            return error(format!("Invalid stock symbol: {}", str(&symbol)));
        }
        if less_equal(&price, &Py::Int(0))? || less_equal(&amount, &Py::Int(0))? {
            return error("Price and amount must be positive values.");
        }
        if order_type.text_for("lower")?.to_lowercase() == "buy" {
            let cost = multiply(&Py::Float(to_float(&price)?), &to_int(&amount)?)?;
            let balance = self.account_info.dict_for("get")?.get_str("balance");
            let balance = balance.cloned().unwrap_or(Py::Int(0));
            if greater(&cost, &balance)? {
                let (cost, balance) = (two_decimals(&cost)?, two_decimals(&balance)?);
                return error(format!(
                    "Insufficient funds: required ${cost} but only ${balance} available."
                ));
            }
        }
        let price = Py::Float(to_float(&price)?);
        let id = self.order_counter.clone();
        let order = |status: &'static str| {
            dict! {
                "id" => id.clone(),
                "order_type" => order_type.clone(),
                "symbol" => symbol.clone(),
                "price" => price.clone(),
                "amount" => amount.clone(),
                "status" => status,
            }
        };
        self.orders.set_item(id.clone(), order("Open"))?;
        self.order_counter = add_in_place(&self.order_counter, &Py::Int(1))?;
        Ok(dict! {
            "order_id" => id,
            "order_type" => order_type,
            "status" => "Pending",
            "price" => price,
            "amount" => amount,
        })
    }

    /// A transaction time of the coming day.
    fn draw_time(&mut self) -> Py {
        let seconds = 10 * 3600 + 30 * 60 + self.random.int(0, 86_400);
        let (day, seconds) = (1 + seconds / 86_400, seconds % 86_400);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("2024-09-{day:02} {hour:02}:{minute:02}:{second:02}").into()
    }

    fn record(&mut self, kind: &'static str, amount: Py) -> Reply<()> {
        let timestamp = self.draw_time();
        let entry = dict! {"type" => kind, "amount" => amount, "timestamp" => timestamp};
        self.transaction_history.append(entry)
    }

    fn balance(&self) -> Reply {
        self.account_info.item(&"balance".into())
    }

    fn withdraw(&mut self, [amount]: [Py; 1]) -> Reply {
        if let Some(refusal) = self.unauthenticated("make a transaction") {
            return error(refusal);
        }
        if !self.market_status.is("Open") {
            return error("Market is closed. Transactions are not allowed.");
        }
        if less_equal(&amount, &Py::Int(0))? {
            return error("Transaction amount must be positive.");
        }
        if greater(&amount, &self.balance()?)? {
            return error("Insufficient funds for withdrawal.");
        }
        let balance = subtract_in_place(&self.balance()?, &amount)?;
        self.account_info.set_item("balance".into(), balance)?;
        self.record("withdrawal", amount)?;
        Ok(dict! {"status" => "Withdrawal successful", "new_balance" => self.balance()?})
    }

    fn account(&mut self, []: [Py; 0]) -> Reply {
        match self.unauthenticated("view account information") {
            Some(refusal) => error(refusal),
            None => Ok(self.account_info.clone()),
        }
    }

    fn login(&mut self, [_username, _password]: [Py; 2]) -> Reply {
        if self.authenticated.truthy() {
            return status("Already logged in");
        }
        self.authenticated = Py::Bool(true);
        status("Logged in successfully")
    }

    fn login_status(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"status" => self.authenticated.truthy()})
    }

    fn logout(&mut self, []: [Py; 0]) -> Reply {
        if !self.authenticated.truthy() {
            return status("No user is currently logged in");
        }
        self.authenticated = Py::Bool(false);
        status("Logged out successfully")
    }

    fn fund(&mut self, [amount]: [Py; 1]) -> Reply {
        if let Some(refusal) = self.unauthenticated("fund the account") {
            return error(refusal);
        }
        if less_equal(&amount, &Py::Int(0))? {
            return error("Funding amount must be positive.");
        }
        let balance = add_in_place(&self.balance()?, &amount)?;
        self.account_info.set_item("balance".into(), balance)?;
        self.record("deposit", amount)?;
        Ok(dict! {"status" => "Account funded successfully", "new_balance" => self.balance()?})
    }

    fn remove_from_watchlist(&mut self, [symbol]: [Py; 1]) -> Reply {
        if let Some(refusal) = self.unauthenticated("modify the watchlist") {
            return error(refusal);
        }
        if !self.watch_list.contains(&symbol)? {
            return error(format!("Stock {} not found in watchlist.", str(&symbol)));
        }
        self.watch_list.remove(&symbol)?;
        status(format!(
            "Stock {} removed from watchlist successfully.",
            str(&symbol)
        ))
    }

    fn watchlist(&mut self, []: [Py; 0]) -> Reply {
        if let Some(refusal) = self.unauthenticated("view the watchlist") {
            return Ok(vec![Py::from(format!("Error: {refusal}"))].into());
        }
        if !self.long_context {
            return Ok(dict! {"watchlist" => self.watch_list.clone()});
        }
        require_copy(&self.watch_list)?;
        let mut list = self.watch_list.clone();
        for symbol in self
            .setting
            .tables
            .filler("WATCH_LIST_EXTENSION")
            .iterate()?
        {
            list.append(symbol)?;
        }
        Ok(list)
    }

    fn order_history(&mut self, []: [Py; 0]) -> Reply {
        if let Some(refusal) = self.unauthenticated("view order history") {
            return Ok(vec![dict! {"error" => refusal}].into());
        }
        let ids: Vec<Py> = self.orders.dict_for("keys")?.keys().cloned().collect();
        Ok(dict! {"history" => ids})
    }

    fn transactions(&mut self, [start, end]: [Py; 2]) -> Reply {
        if let Some(refusal) = self.unauthenticated("view transaction history") {
            return Ok(vec![dict! {"error" => refusal}].into());
        }
        let bound = |date: &Py, otherwise: Instant| match date.truthy() {
            true => midnight(date),
            false => Ok(otherwise),
        };
        let (start, end) = (bound(&start, Instant::MIN)?, bound(&end, Instant::MAX)?);
        let mut found = Vec::new();
        for transaction in self.transaction_history.iterate()? {
            if (start..=end).contains(&instant(&transaction.item(&"timestamp".into())?)?) {
                found.push(transaction);
            }
        }
        if self.long_context {
            found.extend(
                self.setting
                    .tables
                    .filler("TRANSACTION_HISTORY_EXTENSION")
                    .iterate()?,
            );
        }
        Ok(dict! {"transaction_history" => found})
    }

    fn available_stocks(&mut self, [sector]: [Py; 1]) -> Reply {
        let sectors = self.setting.tables.table(NAME, "stocks_by_sector");
        let Some(stocks) = sectors.dict_for("get")?.get(&sector)? else {
            return Ok(dict! {"stock_list" => Vec::new()});
        };
        let mut stocks = stocks.iterate()?;
        if self.long_context {
            let filler = match sector.is("Technology") {
                true => "TECHNOLOGY_EXTENSION",
                false => "AUTOMOBILE_EXTENSION",
            };
            stocks.extend(self.setting.tables.filler(filler).iterate()?);
        }
        Ok(dict! {"stock_list" => stocks})
    }

    fn filter_by_price(&mut self, [stocks, low, high]: [Py; 3]) -> Reply {
        let mut found = Vec::new();
        for symbol in stocks.iterate()? {
            let price = match self.stocks.dict_for("get")?.get(&symbol)? {
                Some(stock) => stock.dict_for("get")?.get_str("price").cloned(),
                None => None,
            };
            let price = price.unwrap_or(Py::Int(0));
            if at_least(&price, &low)? && less_equal(&price, &high)? {
                found.push(symbol);
            }
        }
        Ok(dict! {"filtered_stocks" => found})
    }

    fn add_to_watchlist(&mut self, [stock]: [Py; 1]) -> Reply {
        if !self.watch_list.contains(&stock)? && self.stocks.contains(&stock)? {
            self.watch_list.append(stock)?;
        }
        Ok(dict! {"watchlist" => self.watch_list.clone()})
    }

    fn notify(&mut self, [stocks, threshold]: [Py; 2]) -> Reply {
        let mut changed = Vec::new();
        for symbol in stocks.iterate()? {
            if !self.stocks.contains(&symbol)? {
                continue;
            }
            let change = abs(&self.stocks.item(&symbol)?.item(&"percent_change".into())?)?;
            if at_least(&change, &threshold)? {
                changed.push(symbol);
            }
        }
        if changed.is_empty() {
            let text = "No significant price changes in the selected stocks.";
            return Ok(dict! {"notification" => text});
        }
        let names: Vec<String> = changed.iter().map(str).collect();
        let text = format!(
            "Stocks {} have significant price changes.",
            names.join(", ")
        );
        Ok(dict! {"notification" => text})
    }
}

/// Only containers can be copied.
fn require_copy(value: &Py) -> Reply<()> {
    match value {
        Py::Dict(_) | Py::List(_) | Py::Set(_) => Ok(()),
        _ => Err(Raise::attribute(value, "copy")),
    }
}

fn greater(a: &Py, b: &Py) -> Reply<bool> {
    let order = crate::bfcl::py::compare(a, b, ">")?;
    Ok(order == Some(std::cmp::Ordering::Greater))
}

fn at_least(a: &Py, b: &Py) -> Reply<bool> {
    let order = crate::bfcl::py::compare(a, b, ">=")?;
    Ok(order.is_some_and(|order| order != std::cmp::Ordering::Less))
}

/// `f"{value:.2f}"`
fn two_decimals(value: &Py) -> Reply<String> {
    match value {
        Py::Bool(_) | Py::Int(_) | Py::Big(_) | Py::Float(_) => {
            let float = to_float(value)?;
            Ok(match float.is_finite() {
                true => format!("{float:.2}"),
                false => str(&Py::Float(float)),
            })
        }
        Py::Str(_) => Err(Raise::value_error(
            "Unknown format code 'f' for object of type 'str'",
        )),
        _ => {
            let name = value.type_name();
            let text = format!("unsupported format string passed to {name}.__format__");
            Err(Raise::new(Class::Type, text))
        }
    }
}
