//! What the simulated environment of ACEBench answers where its back ends, Python's parser or its printing have
//! corners. Every expected text was given by the official program (Python 3.11 to 3.13).

use starling_bench::acebench::{Dataset, Lang, MultiStep, MultiTurn, Profile};
use starling_text::json::{self, Value};
use starling_text::python;

fn dataset(lang: Lang) -> Dataset {
    Dataset::embedded(lang, Profile::R2508).expect("embedded data")
}

fn parsed(text: &str) -> Value {
    json::parse(text).expect("JSON")
}

/// Runs messages of a multi-step entry; each answer is a JSON text, or the sentence for what is no call.
fn assert_steps(lang: Lang, id: &str, steps: &[(&str, &str)]) {
    let dataset = dataset(lang);
    let mut driver =
        MultiStep::new(&dataset, dataset.get(id).expect("a known id")).expect("a multi-step entry");
    for (message, expected) in steps {
        let answer = driver.run(message);
        assert!(
            python::eq(&answer, &parsed(expected)),
            "{message}: {answer:?}"
        );
    }
}

const NOT_READ: &str =
    r#""Please do not ask me any questions, use the known conditions to solve the problem""#;

#[test]
fn a_result_shows_what_later_calls_of_its_message_did() {
    assert_steps(
        Lang::Zh,
        "agent_multi_step_17",
        &[
            (
                "[view_reminder_by_title(title='Team Meeting'), mark_as_notified(reminder_id=2), \
                 delete_reminder(reminder_id=2)]",
                r#"[{"status": true, "reminder": {"reminder_id": 1002, "title": "Team Meeting", "description":
                "Monthly project review with the team.", "time": "2024-07-17 11:00", "notified": true}},
                {"status": true, "message": "提醒ID 2 已标记为已通知"},
                {"status": true, "message": "提醒ID 2 已成功删除"}]"#,
            ),
            (
                "[login_food_platform(username='Eve', password='password123'), view_logged_in_users(), nothing(), \
                 login_food_platform(username='Jack', password='password654')]",
                r#"[{"status": true, "message": "用户Eve登陆成功！"},
                {"status": true, "logged_in_users": ["Eve", "Jack"]},
                {"status": true, "logged_in_users": ["Eve", "Jack"]},
                {"status": true, "message": "用户Jack登陆成功！"}]"#,
            ),
        ],
    );
}

/// Runs messages of a travel entry: a JSON text, or nothing where a call raises.
fn assert_travels(steps: &[(&str, Option<&str>)]) {
    let dataset = dataset(Lang::En);
    let item = dataset.get("agent_multi_turn_23").expect("a known id");
    let mut driver = MultiTurn::new(&dataset, item).expect("a multi-turn entry");
    for (message, expected) in steps {
        let answer = driver.run(message).expect("a message that can be read");
        match (answer, expected) {
            (Ok(answer), Some(expected)) => {
                let answer = Value::List(answer);
                assert!(
                    python::eq(&answer, &parsed(expected)),
                    "{message}: {answer:?}"
                );
            }
            (answer, expected) => assert!(answer.is_err() && expected.is_none(), "{message}"),
        }
    }
}

#[test]
fn users_and_flights_of_a_result_are_the_records_themselves() {
    assert_travels(&[
        (
            "[authenticate_user(user_id='user3', password='password789'), \
             reserve_flight(user_id='user3', password='password789', flight_no='MH1765', cabin='Economy Class', \
             payment_method='bank', baggage_count=4)]",
            Some(
                r#"[{"user_name": "Grace", "password": "password789", "cash_balance": 1000.0, "bank_balance": 3450.0,
                "membership_level": "gold"},
                "Booking successful. Reservation ID: res_5. Total cost: 1550 yuan (including baggage fees)."]"#,
            ),
        ),
        (
            "[get_reservation_details(reservation_id='res_5'), \
             reserve_flight(user_id='user1', password='password123', flight_no='MH1765', cabin='Business Class', \
             payment_method='bank', baggage_count=2.0)]",
            Some(
                r#"["[{'reservation_id': 'res_5', 'user_id': 'user3', 'flight_no': 'MH1765', 'payment_method': 'bank', 'cabin': 'Economy Class', 'baggage': 4, 'flight_info': {'flight_no': 'MH1765', 'origin': 'Xiamen', 'destination': 'Chengdu', 'depart_time': '2024-07-17 12:30:00', 'arrival_time': '2024-07-17 15:00:00', 'status': 'available', 'seats_available': 6, 'economy_price': 1500, 'business_price': 2500}}]",
                "Booking successful. Reservation ID: res_6. Total cost: 2500.0 yuan (including baggage fees)."]"#,
            ),
        ),
    ]);
}

#[test]
fn records_can_be_written_into_a_call_with_dict() {
    assert_travels(&[
        (
            "[update_balance(user=dict(cash_balance=100), payment_method='cash', amount=-101)]",
            Some(r#"["False"]"#),
        ),
        (
            "[calculate_price_difference(flight=dict(economy_price=100, business_price=300), \
             old_cabin='Economy Class', new_cabin='Business Class')]",
            Some("[200]"),
        ),
        (
            "[process_refund(user=dict(cash_balance=1), amount=1)]",
            None,
        ),
        (
            "[process_refund(user=dict(cash_balance=1, user_name='x'), amount=1)]",
            Some(r#"["None"]"#),
        ),
        (
            "[process_refund(user={'cash_balance': {'a': 1}}, amount=1)]",
            None,
        ),
    ]);
}

#[test]
fn lines_are_read_as_python_reads_them() {
    let on = r#"[{"status": true, "message": "Device has been logged in"}]"#;
    assert_steps(
        Lang::En,
        "agent_multi_step_17",
        &[
            ("[login_device()\n  ]", NOT_READ),
            ("[login_device()\n\x0c]", on),
            ("[login_device()\n  #]", on),
            ("[login_device()\\\n ]", on),
            ("[login_device()\n\\\n ]", NOT_READ),
            ("[\\\n\r\nlogin_device()]", on),
            ("[\\\n login_device()]", NOT_READ),
            ("[ login_device()]", NOT_READ),
            ("[\nlogin_device()\n]", on),
        ],
    );
}

#[test]
fn numbers_and_halves_of_characters_come_back_as_python_prints_them() {
    assert_steps(
        Lang::En,
        "agent_multi_step_17",
        &[
            (
                "[delete_message(message_id=2-0j)]",
                r#"[{"status": true, "message": "Message ID (2+0j) has been successfully deleted."}]"#,
            ),
            (
                "[send_message(sender_name='Eve', receiver_name='Jack', message='\\ud83d\\ude00')]",
                r#"[{"status": true, "message": "Message successfully sent to Jack."}]"#,
            ),
            (
                "[view_messages_between_users(sender_name='Eve', receiver_name='Jack')]",
                r#"[{"status": true, "messages": [{"id": 7, "sender": "Eve", "receiver": "Jack", "message": "😀"}]}]"#,
            ),
        ],
    );
}

#[test]
fn an_argument_that_is_a_call_or_subscript_is_its_source_text() {
    let cases = [
        ("x[1, 2]", "x[(1, 2)]"),
        ("f(x[1, 2])", "f(x[1, 2])"),
        ("f(x[*a <= b])", "f(x[*(a <= b),])"),
        ("f(u'a' 'b')", "f(u'ab')"),
        (
            "f(a or b or c < d or e < f)",
            "f(a or b or c < d or (e < f))",
        ),
        ("f(2 ** -1)", "f(2 ** (-1))"),
        ("f(True.real, 1e400j)", "f(True .real, 1e309j)"),
        ("f((a := b + c))", "f((a := (b + c)))"),
        (
            "f(lambda x, /, y = 1, *, k=2, **z : (yield))",
            "f(lambda x, /, y=1, *, k=2, **z: (yield))",
        ),
        (
            "f([x for (x, y) in z if (a if b else c)])",
            "f([x for x, y in z if (a if b else c)])",
        ),
        ("f(x for x in y)", "f((x for x in y))"),
        (
            "f({k: v async for *k, v in (lambda : 1)})",
            "f({k: v async for *k, v in (lambda: 1)})",
        ),
        ("f((await x) ** 2, -(await x))", "f(await x ** 2, -await x)"),
        ("f((yield from a + b))", "f((yield from (a + b)))"),
        ("f((yield a, b))", "f((yield (a, b)))"),
        (
            "'%e|%.3g|%g|%G' % (88.0, 1234.5, 1e-05, 1e20)",
            "8.800000e+01|1.23e+03|1e-05|1E+20",
        ),
        ("'%*d|%-5s|%a' % (4, 7, 'x', 'é')", "   7|x    |'\\\\xe9'"),
        ("b'%d %s' % (5, b'x')", "b'5 x'"),
        ("'a' % b'x'", "a"),
        ("'%r' % (b'b' in b'abc')", "True"),
    ];
    let steps = cases.map(|(written, title)| {
        let message = format!("[view_reminder_by_title(title={written})]");
        let answer = format!("No reminder found with the title '{title}'.");
        (
            message,
            format!(r#"[{{"status": false, "message": "{answer}"}}]"#),
        )
    });
    let steps: Vec<(&str, &str)> = steps
        .iter()
        .map(|(m, a)| (m.as_str(), a.as_str()))
        .collect();
    assert_steps(Lang::En, "agent_multi_step_17", &steps);
}

#[test]
fn a_saved_entry_is_compared_where_it_has_exactly_the_classes_of_the_reference() {
    let dataset = dataset(Lang::En);
    let item = dataset.get("agent_multi_step_3").expect("a known id");
    let driver = MultiStep::new(&dataset, item).expect("a multi-step entry");
    let end = |state: &str| {
        let Value::List(state) = parsed(state) else {
            panic!("a list");
        };
        let score = dataset.score_agent(item, &state, &[]);
        score.expect("an agent entry").end
    };
    assert!(driver.state().is_empty());
    assert!(!end("[]"));
    assert!(!end(r#"[{"BaseApi": {"wifi": false}}, {}]"#));
    assert!(end(r#"[{"BaseApi": {"wifi": false}, "Other": {}}, {}]"#));
    assert!(end(r#"[{}, {"BaseAPI": {"wifi": false}}]"#));
    assert!(!end(r#"[{"FoodPlatform": {"other": 1}}, {"BaseApi": {}}]"#));
}

#[test]
fn nesting_without_end_gets_an_answer() {
    let dataset = dataset(Lang::En);
    let item = dataset.get("agent_multi_step_17").expect("a known id");
    let mut driver = MultiStep::new(&dataset, item).expect("a multi-step entry");
    let forms = [
        ("lambda: ", ""),
        ("lambda x=", ": 1"),
        ("(yield ", ")"),
        ("(yield from ", ")"),
        ("(x := ", ")"),
        ("(await x).y(", ")"),
        ("[x for x in ", "]"),
        ("[x for x in y if ", "]"),
        ("{1: ", " for x in y}"),
        ("x[", "]"),
        ("x[*", "]"),
        ("dict(a=", ")"),
        ("not ", ""),
        ("1 ** ", ""),
    ];
    for (open, close) in forms {
        for depth in [150, 380, 10_000] {
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            driver.run(&format!("[view_reminder_by_title(title=f({nested}))]"));
            driver.run(&format!("[view_reminder_by_title(title={nested})]"));
        }
    }
}
