//! A car.

use super::random::Random;
use super::{Attribute, Default as D, Setting, methods};
use crate::bfcl::py::{
    Py, Raise, Reply, add, add_in_place, compare, dict, divide, eq, float_remainder, less,
    less_equal, multiply, str, subtract, subtract_in_place, to_float,
};

const NAME: &str = "VehicleControlAPI";

#[derive(Debug, Clone)]
pub(crate) struct Vehicle {
    fuel_level: Py,
    battery_voltage: Py,
    engine_state: Py,
    remaining_unlocked_doors: Py,
    door_status: Py,
    ac_temperature: Py,
    fan_speed: Py,
    ac_mode: Py,
    humidity_level: Py,
    head_light_status: Py,
    parking_brake_status: Py,
    parking_brake_force: Py,
    slope_angle: Py,
    brake_pedal_status: Py,
    brake_pedal_force: Py,
    distance_to_next_vehicle: Py,
    cruise_status: Py,
    destination: Py,
    front_left_tire_pressure: Py,
    front_right_tire_pressure: Py,
    rear_left_tire_pressure: Py,
    rear_right_tire_pressure: Py,
    long_context: bool,
    random: Random,
    setting: Setting,
}

fn error(text: impl Into<String>) -> Reply {
    Ok(dict! {"error" => text.into()})
}

impl Vehicle {
    methods! {
        startEngine = start_engine(ignitionMode);
        fillFuelTank = fill_fuel_tank(fuelAmount);
        lockDoors = lock_doors(unlock, door);
        adjustClimateControl = adjust_climate(
            temperature,
            unit = D::Text("celsius"),
            fanSpeed = D::Int(50),
            mode = D::Text("auto")
        );
        get_outside_temperature_from_google = outside_temperature();
        get_outside_temperature_from_weather_com = outside_temperature_missing();
        setHeadlights = set_headlights(mode);
        displayCarStatus = display_status(option);
        activateParkingBrake = parking_brake(mode);
        pressBrakePedal = press_brake(pedalPosition);
        releaseBrakePedal = release_brake();
        setCruiseControl = set_cruise(speed, activate, distanceToNextVehicle);
        get_current_speed = current_speed();
        display_log = display_log(messages);
        estimate_drive_feasibility_by_mileage = drive_feasibility(distance);
        liter_to_gallon = liter_to_gallon(liter);
        gallon_to_liter = gallon_to_liter(gallon);
        estimate_distance = estimate_distance(cityA, cityB);
        get_zipcode_based_on_city = zipcode(city);
        set_navigation = set_navigation(destination);
        check_tire_pressure = check_tires();
        find_nearest_tire_shop = nearest_tire_shop();
    }

    pub(super) fn load(scenario: &Py, setting: &Setting) -> Reply<Self> {
        let named =
            |key: &str, default: &str| setting.tables.attribute(NAME, scenario, key, default);
        let get = |key: &str| named(key, key);
        let door_status = get("doorStatus");
        let doors = door_status.dict_for("keys")?;
        let locked = doors.values().filter(|status| status.is("locked")).count();
        Ok(Self {
            fuel_level: get("fuelLevel"),
            battery_voltage: get("batteryVoltage"),
            engine_state: named("engineState", "engine_state"),
            remaining_unlocked_doors: Py::Int(4 - locked as i64),
            ac_temperature: get("acTemperature"),
            fan_speed: get("fanSpeed"),
            ac_mode: get("acMode"),
            humidity_level: get("humidityLevel"),
            head_light_status: get("headLightStatus"),
            parking_brake_status: get("parkingBrakeStatus"),
            parking_brake_force: named("parkingBrakeForce", "_parkingBrakeForce"),
            slope_angle: named("slopeAngle", "_slopeAngle"),
            brake_pedal_status: get("brakePedalStatus"),
            brake_pedal_force: get("brakePedalForce"),
            distance_to_next_vehicle: get("distanceToNextVehicle"),
            cruise_status: get("cruiseStatus"),
            destination: get("destination"),
            front_left_tire_pressure: get("frontLeftTirePressure"),
            front_right_tire_pressure: get("frontRightTirePressure"),
            rear_left_tire_pressure: get("rearLeftTirePressure"),
            rear_right_tire_pressure: get("rearRightTirePressure"),
            long_context: setting.long_context,
            random: Random::new(&get("random_seed")),
            setting: setting.clone(),
            door_status,
        })
    }

    pub(super) fn attributes(&self) -> Vec<(&'static str, Attribute<'_>)> {
        vec![
            ("fuelLevel", Attribute::Value(&self.fuel_level)),
            ("batteryVoltage", Attribute::Value(&self.battery_voltage)),
            ("engine_state", Attribute::Value(&self.engine_state)),
            (
                "remainingUnlockedDoors",
                Attribute::Value(&self.remaining_unlocked_doors),
            ),
            ("doorStatus", Attribute::Value(&self.door_status)),
            ("acTemperature", Attribute::Value(&self.ac_temperature)),
            ("fanSpeed", Attribute::Value(&self.fan_speed)),
            ("acMode", Attribute::Value(&self.ac_mode)),
            ("humidityLevel", Attribute::Value(&self.humidity_level)),
            ("headLightStatus", Attribute::Value(&self.head_light_status)),
            (
                "parkingBrakeStatus",
                Attribute::Value(&self.parking_brake_status),
            ),
            (
                "brakePedalStatus",
                Attribute::Value(&self.brake_pedal_status),
            ),
            (
                "distanceToNextVehicle",
                Attribute::Value(&self.distance_to_next_vehicle),
            ),
            ("cruiseStatus", Attribute::Value(&self.cruise_status)),
            ("destination", Attribute::Value(&self.destination)),
            (
                "frontLeftTirePressure",
                Attribute::Value(&self.front_left_tire_pressure),
            ),
            (
                "frontRightTirePressure",
                Attribute::Value(&self.front_right_tire_pressure),
            ),
            (
                "rearLeftTirePressure",
                Attribute::Value(&self.rear_left_tire_pressure),
            ),
            (
                "rearRightTirePressure",
                Attribute::Value(&self.rear_right_tire_pressure),
            ),
            ("long_context", Attribute::Bool(self.long_context)),
        ]
    }

    fn start_engine(&mut self, [mode]: [Py; 1]) -> Reply {
        if mode.is("STOP") {
            // Stops, and then all the conditions of starting are checked as well.
            self.engine_state = "stopped".into();
        }
        if greater(&self.remaining_unlocked_doors, &Py::Int(0))? {
            let doors = self.door_status.dict_for("items")?.iter();
            let unlocked = doors
                .filter(|(_, status)| status.is("unlocked"))
                .map(|(door, _)| str(door));
            return error(format!(
                "All doors must be locked before starting the engine. Here are the unlocked doors: {}",
                unlocked.collect::<Vec<_>>().join(", ")
            ));
        }
        if !self.brake_pedal_status.is("pressed") {
            return error("Brake pedal needs to be pressed when starting the engine.");
        }
        if !eq(&self.brake_pedal_force, &Py::Float(1000.0)) {
            return error("Must press the brake fully before starting the engine.");
        }
        if less(
            &self.fuel_level,
            &self.setting.tables.table(NAME, "min_fuel"),
        )? {
            return error("Fuel tank is empty.");
        }
        if !mode.is("START") {
            return error("Invalid ignition mode.");
        }
        self.engine_state = "running".into();
        Ok(dict! {
            "engineState" => self.engine_state.clone(),
            "fuelLevel" => self.fuel_level.clone(),
            "batteryVoltage" => self.battery_voltage.clone(),
        })
    }

    fn fill_fuel_tank(&mut self, [amount]: [Py; 1]) -> Reply {
        if less(&amount, &Py::Int(0))? {
            return error("Fuel amount cannot be negative.");
        }
        let filled = add(&self.fuel_level, &amount)?;
        if greater(&filled, &self.setting.tables.table(NAME, "max_fuel"))? {
            return error("Cannot fill gas above the tank capacity.");
        }
        if less(&filled, &self.setting.tables.table(NAME, "min_fuel"))? {
            return error("Fuel tank is empty. Min fuel level is 0 gallons.");
        }
        self.fuel_level = filled;
        Ok(dict! {"fuelLevel" => self.fuel_level.clone()})
    }

    fn lock_doors(&mut self, [unlock, doors]: [Py; 2]) -> Reply {
        let wanted = if unlock.truthy() {
            "unlocked"
        } else {
            "locked"
        };
        for door in doors.iterate()? {
            if self.door_status.item(&door)?.is(wanted) {
                continue;
            }
            self.door_status.set_item(door, wanted.into())?;
            let count = &self.remaining_unlocked_doors;
            self.remaining_unlocked_doors = match wanted {
                "unlocked" => add_in_place(count, &Py::Int(1))?,
                _ => subtract_in_place(count, &Py::Int(1))?,
            };
        }
        Ok(dict! {
            "lockStatus" => wanted,
            "remainingUnlockedDoors" => self.remaining_unlocked_doors.clone(),
        })
    }

    fn adjust_climate(&mut self, [temperature, unit, fan_speed, mode]: [Py; 4]) -> Reply {
        if !between(0, &fan_speed, 100)? {
            return error("Fan speed must be between 0 and 100.");
        }
        self.ac_temperature = temperature.clone();
        if unit.is("fahrenheit") {
            let above = subtract(&temperature, &Py::Int(32))?;
            self.ac_temperature = divide(&multiply(&above, &Py::Int(5))?, &Py::Int(9))?;
        }
        self.fan_speed = fan_speed;
        self.ac_mode = mode.clone();
        Ok(dict! {
            "currentACTemperature" => temperature,
            "climateMode" => mode,
            "humidityLevel" => self.humidity_level.clone(),
        })
    }

    fn outside_temperature(&mut self, []: [Py; 0]) -> Reply {
        let drawn = Py::Float(self.random.uniform(-10.0, 40.0));
        if !self.long_context {
            return Ok(dict! {"outsideTemperature" => drawn});
        }
        let mut weather = self.setting.tables.filler("LONG_WEATHER_EXTENSION");
        weather.set_item("outsideTemperature".into(), drawn)?;
        Ok(weather)
    }

    fn outside_temperature_missing(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"error" => 404_i64})
    }

    fn set_headlights(&mut self, [mode]: [Py; 1]) -> Reply {
        if !["on", "off", "auto"].iter().any(|known| mode.is(known)) {
            return error("Invalid headlight mode.");
        }
        let status = if mode.is("on") { "on" } else { "off" };
        self.head_light_status = status.into();
        Ok(dict! {"headlightStatus" => status})
    }

    fn display_status(&mut self, [option]: [Py; 1]) -> Reply {
        let mut status = dict! {};
        if self.long_context {
            let metadata = self.setting.tables.filler("CAR_STATUS_METADATA_EXTENSION");
            status.set_item("metadata".into(), metadata)?;
        }
        let entries: Vec<(&'static str, Py)> = match option.as_str().unwrap_or_default() {
            "fuel" => vec![("fuelLevel", self.fuel_level.clone())],
            "battery" => vec![("batteryVoltage", self.battery_voltage.clone())],
            "doors" => vec![("doorStatus", self.door_status.clone())],
            "climate" => vec![
                ("currentACTemperature", self.ac_temperature.clone()),
                ("fanSpeed", self.fan_speed.clone()),
                ("climateMode", self.ac_mode.clone()),
                ("humidityLevel", self.humidity_level.clone()),
            ],
            "headlights" => vec![("headlightStatus", self.head_light_status.clone())],
            "parkingBrake" => vec![
                ("parkingBrakeStatus", self.parking_brake_status.clone()),
                ("parkingBrakeForce", self.parking_brake_force.clone()),
                ("slopeAngle", self.slope_angle.clone()),
            ],
            "brakePedal" => vec![
                ("brakePedalStatus", self.brake_pedal_status.clone()),
                ("brakePedalForce", self.brake_pedal_force.clone()),
            ],
            "engine" => vec![("engineState", self.engine_state.clone())],
            _ => vec![("error", "Invalid option".into())],
        };
        for (name, value) in entries {
            status.set_item(name.into(), value)?;
        }
        Ok(status)
    }

    fn parking_brake(&mut self, [mode]: [Py; 1]) -> Reply {
        let (status, force) = if mode.is("engage") {
            ("engaged", 500.0)
        } else if mode.is("release") {
            ("released", 0.0)
        } else {
            return error("Invalid mode");
        };
        self.parking_brake_status = status.into();
        self.parking_brake_force = Py::Float(force);
        self.slope_angle = Py::Float(10.0);
        let mut reply = dict! {};
        if self.long_context {
            let text = self.setting.tables.filler("PARKING_BRAKE_INSTRUCTION");
            reply.set_item("parkingBrakeInstruction".into(), text)?;
        }
        reply.set_item("parkingBrakeStatus".into(), status.into())?;
        reply.set_item("_parkingBrakeForce".into(), force.into())?;
        reply.set_item("_slopeAngle".into(), Py::Float(10.0))?;
        Ok(reply)
    }

    fn press_brake(&mut self, [position]: [Py; 1]) -> Reply {
        if !between(0, &position, 1)? {
            return error("Pedal position must be between 0 and 1.");
        }
        if eq(&position, &Py::Int(0)) {
            return self.release_brake([]);
        }
        let force = multiply(&position, &Py::Int(1000))?;
        let answered = to_float(&force)?;
        self.brake_pedal_status = "pressed".into();
        self.brake_pedal_force = force;
        Ok(dict! {"brakePedalStatus" => "pressed", "brakePedalForce" => answered})
    }

    fn release_brake(&mut self, []: [Py; 0]) -> Reply {
        self.brake_pedal_status = "released".into();
        self.brake_pedal_force = Py::Float(0.0);
        Ok(dict! {"brakePedalStatus" => "released", "brakePedalForce" => 0.0})
    }

    fn set_cruise(&mut self, [speed, activate, distance]: [Py; 3]) -> Reply {
        let distance = to_float(&distance)?;
        let speed = to_float(&speed)?;
        if self.engine_state.is("stopped") {
            return error("Start the engine before activating the cruise control.");
        }
        self.distance_to_next_vehicle = Py::Float(distance);
        let status = if activate.truthy() {
            let off_step = float_remainder(speed, 5.0);
            if !(0.0..=120.0).contains(&speed) || off_step.is_nan() || off_step.abs() > 0.0 {
                return error("Invalid speed");
            }
            "active"
        } else {
            "inactive"
        };
        self.cruise_status = status.into();
        Ok(dict! {
            "cruiseStatus" => status,
            "currentSpeed" => speed,
            "distanceToNextVehicle" => distance,
        })
    }

    fn current_speed(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"currentSpeed" => self.random.uniform(0.0, 120.0)})
    }

    fn display_log(&mut self, [messages]: [Py; 1]) -> Reply {
        Ok(dict! {"log" => messages})
    }

    fn drive_feasibility(&mut self, [distance]: [Py; 1]) -> Reply {
        let range = multiply(
            &self.fuel_level,
            &self.setting.tables.table(NAME, "miles_per_gallon"),
        )?;
        Ok(dict! {"canDrive" => !less(&range, &distance)?})
    }

    fn liter_to_gallon(&mut self, [liter]: [Py; 1]) -> Reply {
        Ok(dict! {"gallon" => multiply(&liter, &Py::Float(0.264_172))?})
    }

    fn gallon_to_liter(&mut self, [gallon]: [Py; 1]) -> Reply {
        Ok(dict! {"liter" => multiply(&gallon, &Py::Float(3.785_41))?})
    }

    fn estimate_distance(&mut self, [a, b]: [Py; 2]) -> Reply {
        let mut reply = dict! {"error" => "distance not found in database."};
        for row in self
            .setting
            .tables
            .table(NAME, "distance_km_symmetric")
            .iterate()?
        {
            let (from, to) = (row.item(&Py::Int(0))?, row.item(&Py::Int(1))?);
            if (eq(&a, &from) && eq(&b, &to)) || (eq(&a, &to) && eq(&b, &from)) {
                reply = dict! {"distance" => row.item(&Py::Int(2))?};
                break;
            }
        }
        if self.long_context {
            let cities = self.setting.tables.filler("INTERMEDIARY_CITIES");
            reply.set_item("intermediaryCities".into(), cities)?;
        }
        Ok(reply)
    }

    fn zipcode(&mut self, [city]: [Py; 1]) -> Reply {
        let table = self.setting.tables.table(NAME, "zipcode_by_city");
        // Comparisons, not a lookup: what cannot be hashed is merely unknown.
        let known = table
            .dict_for("items")?
            .iter()
            .find(|(name, _)| eq(name, &city));
        let code = known.map(|(_, code)| code.clone());
        let otherwise = || self.setting.tables.table(NAME, "zipcode_otherwise");
        Ok(dict! {"zipcode" => code.unwrap_or_else(otherwise)})
    }

    fn set_navigation(&mut self, [destination]: [Py; 1]) -> Reply {
        self.destination = destination;
        Ok(dict! {"status" => add(&"Navigating to ".into(), &self.destination)?})
    }

    fn check_tires(&mut self, []: [Py; 0]) -> Reply {
        let tires = [
            &self.front_left_tire_pressure,
            &self.front_right_tire_pressure,
            &self.rear_left_tire_pressure,
            &self.rear_right_tire_pressure,
        ];
        let mut total = tires[0].clone();
        for tire in &tires[1..] {
            total = add(&total, tire)?;
        }
        let healthy = between(30, &divide(&total, &Py::Int(4))?, 35)?;
        let info = match self.long_context {
            true => self.setting.tables.filler("CAR_STATUS_METADATA_EXTENSION"),
            false => dict! {},
        };
        Ok(dict! {
            "frontLeftTirePressure" => self.front_left_tire_pressure.clone(),
            "frontRightTirePressure" => self.front_right_tire_pressure.clone(),
            "rearLeftTirePressure" => self.rear_left_tire_pressure.clone(),
            "rearRightTirePressure" => self.rear_right_tire_pressure.clone(),
            "healthy_tire_pressure" => healthy,
            "car_info" => info,
        })
    }

    fn nearest_tire_shop(&mut self, []: [Py; 0]) -> Reply {
        Ok(dict! {"shopLocation" => "456 Oakwood Avenue, Rivermist, 83214"})
    }
}

fn greater(a: &Py, b: &Py) -> Result<bool, Raise> {
    Ok(compare(a, b, ">")? == Some(std::cmp::Ordering::Greater))
}

/// `low <= value <= high`
fn between(low: i64, value: &Py, high: i64) -> Reply<bool> {
    Ok(less_equal(&Py::Int(low), value)? && less_equal(value, &Py::Int(high))?)
}
