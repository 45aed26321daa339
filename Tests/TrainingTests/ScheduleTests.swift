import Foundation
import Testing

@testable import Training

@Suite("Learning-rate schedule")
struct ScheduleTests {
    typealias Shape = LearningRateSchedule.Shape

    @Test(
        "Warm-up rises in equal parts from the first step and reaches the peak with its last", arguments: Shape.allCases
    )
    func warmup(shape: Shape) throws {
        let schedule = try LearningRateSchedule(peak: 0.5, warmupSteps: 4, totalSteps: 11, shape: shape)
        #expect((1...4).map(schedule.rate) == [0.125, 0.25, 0.375, 0.5])
    }

    @Test("A cosine falls to the floor, half of the way in half of the time")
    func cosine() throws {
        let schedule = try LearningRateSchedule(peak: 2, warmupSteps: 3, totalSteps: 9)
        let expected = (1...6).map { 0.2 + 1.8 * (1 + cos(Double.pi * Double($0) / 6)) / 2 }
        for (step, rate) in zip(4...9, expected) { #expect(abs(schedule.rate(step: step) - rate) <= 4 * 0x1p-52) }
        #expect(abs(schedule.rate(step: 6) - 1.1) <= 4 * 0x1p-52)
        #expect(schedule.rate(step: 9) == 0.2)
    }

    @Test("A line falls in equal parts, a constant not at all")
    func otherShapes() throws {
        let linear = try LearningRateSchedule(peak: 1, warmupSteps: 2, totalSteps: 6, shape: .linear, floor: 0.5)
        #expect((1...8).map(linear.rate) == [0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5])
        let constant = try LearningRateSchedule(peak: 3, warmupSteps: 2, totalSteps: 5, shape: .constant)
        #expect((1...7).map(constant.rate) == [1.5, 3, 3, 3, 3, 3, 3])
    }

    @Test(
        "Rises to the peak, then never rises again, and ends at the floor", arguments: Shape.allCases,
        [(0, 1), (0, 7), (1, 1), (1, 2), (5, 5), (300, 4001)])
    func monotonicity(shape: Shape, steps: (warmup: Int, total: Int)) throws {
        let schedule = try LearningRateSchedule(
            peak: 3e-3, warmupSteps: steps.warmup, totalSteps: steps.total, shape: shape, floor: 0.07)
        let rates = (1...steps.total + 3).map(schedule.rate)
        #expect(rates.allSatisfy { $0 > 0 && $0 <= 3e-3 })
        let rise = rates.prefix(steps.warmup)
        #expect(zip(rise, rise.dropFirst()).allSatisfy { $0 < $1 })
        #expect(rise.isEmpty || rise.last == 3e-3)
        let fall = rates[max(0, steps.warmup - 1)..<steps.total]
        #expect(zip(fall, fall.dropFirst()).allSatisfy { shape == .constant ? $0 == $1 : $0 > $1 })
        let end = shape == .constant ? 3e-3 : 3e-3 * 0.07
        #expect(rates.suffix(3).allSatisfy { $0 == end })
        #expect(rates[steps.total - 1] == (steps.warmup == steps.total ? 3e-3 : end))
    }

    @Test("What is no schedule is refused by name")
    func badValues() {
        func name(
            peak: Double = 1, warmup: Int = 2, total: Int = 9, floor: Double = 0.1
        ) -> String? {
            do throws(TrainingError) {
                _ = try LearningRateSchedule(peak: peak, warmupSteps: warmup, totalSteps: total, floor: floor)
            } catch {
                if case .setting(let name, _, _) = error { return name }
            }
            return nil
        }
        #expect(name() == nil && name(warmup: 9) == nil && name(floor: 0) == nil && name(floor: 1) == nil)
        for peak in [0, -1e-3, .infinity, .nan] { #expect(name(peak: peak) == "learning rate") }
        for floor in [-0.1, 1.1, .infinity, .nan] { #expect(name(floor: floor) == "learning-rate floor") }
        for warmup in [-1, 10] { #expect(name(warmup: warmup) == "warm-up steps") }
        for total in [0, -3, .max] { #expect(name(warmup: 0, total: total) == "steps") }
    }
}
