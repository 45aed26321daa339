import ArgumentParser
import Checkpoints
import CommandSupport
import Glibc
import JSON
import LinearAlgebra
import Spectra
import Tensors
import Training
import Transformer
import Workflows

/// A trainer at work: steps, lines about them, metrics, checkpoints, and an orderly end when interrupted.
struct TrainingRun {
    let trainer: Trainer
    let folder: RunFolder
    let saving: SavingOptions
    let consoleOptions: ConsoleOptions
    /// What every checkpoint carries.
    let configuration: String
    let tokenizer: TokenizerBlob?
    let provenance: JSONObject

    func run() throws {
        let console = consoleOptions.console
        describe(console)
        let log = try MetricsLog(in: folder, history: trainer.state.history)
        let ranks = try RankHistory(in: folder, of: trainer)
        var saved = trainer.state.step > 0 ? trainer.state.step : -1
        var lastSave = monotonicSeconds()
        let (start, firstStep) = (monotonicSeconds(), trainer.state.step)
        Interrupts.deferUntilAsked()
        func save() throws {
            guard saved != trainer.state.step else { return }
            try trainer.save(
                to: folder.checkpointPath(step: trainer.state.step), configuration: configuration,
                provenance: JSONValue.object(provenance).text(), tokenizer: tokenizer)
            saved = trainer.state.step
            lastSave = monotonicSeconds()
            try folder.removeCheckpoints(keeping: saving.keep)
        }
        func measureRanks() throws {
            do {
                if let measured = try ranks?.measureIfDue(trainer), !measured.isEmpty { console.note(line(measured)) }
            } catch let error as LinearAlgebraError {
                console.warn("step \(trainer.state.step): ranks not measured: \(error)")
            }
        }
        try measureRanks()
        while !trainer.isFinished {
            let record = try trainer.step(seconds: monotonicSeconds)
            try log.append(record)
            try measureRanks()
            let perStep = (monotonicSeconds() - start) / Double(trainer.state.step - firstStep)
            console.note(
                line(record, secondsLeft: perStep * Double(trainer.settings.schedule.totalSteps - record.step)))
            let isDue = record.step % saving.saveEvery == 0 || monotonicSeconds() - lastSave >= 60 * saving.saveMinutes
            let divergence = trainer.divergence
            if isDue || Interrupts.isRequested || divergence != nil { try save() }
            if let divergence { throw divergence }
            if Interrupts.isRequested {
                console.note(
                    "saved \(folder.checkpointPath(step: saved)); go on with: cola-train resume \(folder.path)")
                throw ExitCode(130)
            }
        }
        try save()
        try report(seconds: monotonicSeconds() - start)
    }

    private func describe(_ console: Console) {
        let settings = trainer.settings
        let (schedule, optimizer) = (settings.schedule, settings.optimizer)
        console.note(
            "settings: \(grouped(schedule.totalSteps)) steps of \(settings.batch) × \(settings.accumulation) sequences of "
                + "\(settings.sequenceLength) tokens, \(settings.packing.rawValue), seed \(settings.seed), "
                + "memory \(settings.memory.rawValue), precision \(settings.precision.rawValue)")
        settings.precision.announce(console)
        let floor = schedule.shape == .constant ? "" : " to \(schedule.floor) of it"
        console.note(
            "AdamW: learning rate \(schedule.peak), warm-up \(schedule.warmupSteps) steps, then "
                + "\(schedule.shape.rawValue)\(floor); β \(optimizer.beta1) and \(optimizer.beta2), weight decay "
                + "\(optimizer.weightDecay), clipping at \(settings.clip)")
        let units = optimizer.groups.compactMap(\.unit).sorted()
        if let smallest = units.first, let largest = units.last {
            console.note(
                "units of \(units.count) parameters by their size: \(fixed(smallest, 4)) to "
                    + "\(fixed(largest, 2))")
        }
        if settings.teacherShare > 0 {
            console.note("loss: \(settings.teacherShare) × divergence from the teacher, the rest cross-entropy")
        }
        for group in optimizer.groups where group.unit == nil {
            let decay = group.weightDecay.map { ", weight decay \($0)" } ?? ""
            console.note("group \(group.pattern): learning rate × \(group.learningRateFactor)\(decay)")
        }
        let data = trainer.data
        console.note(
            "data: \(grouped(data.tokenCount)) tokens, \(grouped(data.trainingCount)) sequences to train on, "
                + "\(grouped(data.evaluationCount)) held out")
        let bytes = trainer.bytes.map { "\($0.purpose) \(fixed(Double($0.bytes) / 0x1p20, 1)) MiB" }
        console.note(
            "memory: \(grouped(trainer.masters.parameterCount)) parameters; " + bytes.joined(separator: ", "))
    }

    /// Means over layers of the ranks at the first α that the run follows.
    private func line(_ measured: [MeasuredSpectrum]) -> String {
        let alpha = trainer.settings.rankTracking?.alphas.first ?? ""
        let side = measured[0].spectrum.key.side
        let means = MeasuredModule.all(of: trainer.masters.description).compactMap { module -> String? in
            let ranks = measured.filter { $0.spectrum.key.module == module && $0.spectrum.key.side == side }
                .map { $0.ranks.energyRanks[0] }
            return ranks.isEmpty
                ? nil : "\(module.shortName) \(fixed(Double(ranks.reduce(0, +)) / Double(ranks.count), 1))"
        }
        return "step \(trainer.state.step)  mean rank of \(side.rawValue)s at α = \(alpha): "
            + means.joined(separator: ", ")
    }

    /// One line of fixed width per step.
    private func line(_ record: StepRecord, secondsLeft: Double) -> String {
        func padded(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        let total = "\(trainer.settings.schedule.totalSteps)"
        let evaluation = record.evaluationLoss.map { fixed($0, 4) } ?? ""
        let isFinite = record.loss.isFinite && record.gradientNorm.isFinite
        return "step \(padded("\(record.step)", total.count))/\(total)  loss \(padded(fixed(record.loss, 4), 8))  eval "
            + "\(padded(evaluation, 7))  norm \(padded(fixed(record.gradientNorm, 3), 8))  rate "
            + "\(padded(fixed(record.learningRate * 1e3, 4), 8))e-3  \(padded(grouped(Int(record.tokensPerSecond)), 8)) "
            + "tokens/s  \(padded(duration(secondsLeft), 8)) left" + (isFinite ? "" : "  not finite: skipped")
    }

    private func duration(_ seconds: Double) -> String {
        let whole = Int(seconds.rounded())
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(whole / 3600):\(two(whole / 60 % 60)):\(two(whole % 60))"
    }

    private func report(seconds: Double) throws {
        let state = trainer.state
        let path = folder.checkpointPath(step: state.step)
        let last = state.history.last
        guard consoleOptions.json else {
            var table = TextTable([("", .left), ("", .right)])
            table.append(["checkpoint", path])
            table.append(["steps", grouped(state.step)])
            table.append(["tokens", grouped(state.tokens)])
            if let last { table.append(["loss", fixed(last.loss, 4)]) }
            if let loss = last?.evaluationLoss {
                table.append(["evaluation loss", fixed(loss, 4)])
                table.append(["evaluation perplexity", TextLoss.perplexityText(loss, 3)])
            }
            if state.skippedSteps > 0 { table.append(["skipped steps", grouped(state.skippedSteps)]) }
            table.append(["seconds", fixed(seconds, 1)])
            return try Console.output(table.text)
        }
        var result = JSONObject([
            ("checkpoint", .string(path)), ("steps", .integer(state.step)), ("tokens", .integer(state.tokens)),
            ("skipped_steps", .integer(state.skippedSteps)), ("seconds", .number(seconds)),
            ("loss", last.map { .number($0.loss) } ?? .null),
            ("evaluation_loss", last?.evaluationLoss.map { .number($0) } ?? .null),
        ])
        if let last, !last.loss.isFinite {
            result["reason"] = "the loss of the last step is not finite; it was skipped"
        }
        for member in Provenance.tool().members { result[member.key] = member.value }
        try Console.output(JSONValue.object(result).text(indent: 2))
    }
}
