//! Who makes samples' gradients: the processor, one after another, or devices, as many at a time as there are.
//!
//! Each device has the parameters, and makes the gradients of whole samples. They are added up on the host, in the
//! order of the samples, so that several devices give the bits of one.

use std::sync::Arc;

use super::sample::TrainingSample;
use super::step::{SampleGradients, Watch, device_gradients, sample_gradients};
use crate::cpu::device::Cpu;
use crate::cpu::ops::depth_backward::DepthLoss;
use crate::cpu::simd::Level;
use crate::cuda::driver::Driver;
use crate::cuda::training::Teacher;
use crate::error::{Error, Result};
use crate::host::memory_limits::expect_room_for_threads;
use crate::net::parameters::Parameters;
use crate::scene::camera::Hypotheses;

/// A sample and the depths that are tried.
pub type Lesson = (TrainingSample, Hypotheses);

struct DeviceTeacher {
    teacher: Teacher,
    /// What the device is called.
    name: String,
    /// Its name in messages, where there are several.
    device: Option<String>,
}

/// All devices that make gradients; none where the processor does.
pub struct Teachers(Vec<DeviceTeacher>);

impl Teachers {
    /// On these devices, with their indices.
    ///
    /// # Errors
    /// The devices'.
    pub fn new(devices: Vec<(usize, Arc<dyn Driver>)>, parameters: &Parameters) -> Result<Self> {
        let several = devices.len() > 1;
        let teacher = |(index, driver): (usize, Arc<dyn Driver>)| {
            let name = driver.name();
            let device = several.then(|| format!("cuda:{index} ({name})"));
            let teacher = Teacher::new(driver, parameters).map_err(|error| named(error, device.as_deref()))?;
            Ok(DeviceTeacher { teacher, name, device })
        };
        Ok(Self(devices.into_iter().map(teacher).collect::<Result<_>>()?))
    }

    /// By what means: they decide over the last bits.
    pub fn describe(&self) -> String {
        if self.0.is_empty() {
            return format!("the processor ({})", Level::best().name());
        }
        self.0.iter().map(|teacher| teacher.name.as_str()).collect::<Vec<_>>().join(" and ")
    }

    /// Lessons that are taught at the same time.
    pub fn at_once(&self) -> usize {
        self.0.len().max(1)
    }

    /// The gradients of each lesson, in their order.
    ///
    /// # Errors
    /// As [`sample_gradients`]; the devices', of the first lesson that has failed.
    pub fn teach(
        &mut self,
        cpu: &Cpu,
        parameters: &Parameters,
        lessons: &[Lesson],
        loss: DepthLoss,
    ) -> Result<Vec<SampleGradients>> {
        let teach = |teacher: &mut DeviceTeacher, (sample, hypotheses): &Lesson| {
            let found = device_gradients(&mut teacher.teacher, parameters, sample, hypotheses, loss);
            found.map_err(|error| named(error, teacher.device.as_deref()))
        };
        match (&mut self.0[..], lessons) {
            ([], lessons) => {
                let run = |(sample, hypotheses): &Lesson| {
                    sample_gradients(cpu, parameters, sample, hypotheses, loss, Watch::Nothing)
                };
                lessons.iter().map(run).collect()
            }
            ([teacher, ..], [lesson]) => Ok(vec![teach(teacher, lesson)?]),
            (teachers, lessons) => {
                expect_room_for_threads(lessons.len())?;
                std::thread::scope(|scope| {
                    let pairs = teachers.iter_mut().zip(lessons);
                    let threads: Vec<_> =
                        pairs.map(|(teacher, lesson)| scope.spawn(move || teach(teacher, lesson))).collect();
                    let joined = |thread: std::thread::ScopedJoinHandle<Result<SampleGradients>>| {
                        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    };
                    threads.into_iter().map(joined).collect()
                })
            }
        }
    }
}

/// An error with the device where it happened.
fn named(error: Error, device: Option<&str>) -> Error {
    match device {
        Some(device) => error.within(device),
        None => error,
    }
}
