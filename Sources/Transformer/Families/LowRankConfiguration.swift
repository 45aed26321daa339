import JSON

extension JSONObject {
    /// config.json of a model with bottlenecks, made of that of its dense one. `tell` adds what there is to tell of them,
    /// given whether the model is of CoLA's own type.
    ///
    /// What is built like LLaMA becomes a model of CoLA's own type, as the paper's code has it. Any other family keeps its type
    /// and all its keys, because bottlenecks are a property of linear layers; where the configuration has the text model in an
    /// object of its own, they are told there.
    public func ofLowRankModel(_ tell: (inout JSONObject, _ isOfColaType: Bool) -> Void) -> JSONObject {
        var result = self
        let family = Family.named(self["model_type"]?.stringValue ?? Family.llama.name)
        // Of Qwen2, which may have windows; CoLA's type has none.
        let hasWindows = self["use_sliding_window"]?.boolValue == true
        guard family?.name == "llama" || family?.name == "qwen2" && !hasWindows else {
            if let key = family?.textKey, var text = self[key]?.objectValue {
                tell(&text, false)
                result[key] = .object(text)
            } else {
                tell(&result, false)
            }
            return result
        }
        result["architectures"] = ["ColaForCausalLM"]
        result["model_type"] = "cola"
        tell(&result, true)
        // Of Qwen2, whose files name a window that is not used.
        result["use_sliding_window"] = nil
        result["sliding_window"] = nil
        return result
    }
}
