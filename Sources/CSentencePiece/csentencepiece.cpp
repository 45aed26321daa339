#include "csentencepiece.h"

#include <sentencepiece_processor.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct csentencepiece_model {
    sentencepiece::SentencePieceProcessor processor;
};

namespace {

void report(char **error, const char *text) {
    if (error != nullptr) *error = strdup(text);
}

/// Runs `body`; anything thrown becomes an error text and `failure`.
template <typename Result, typename Body>
Result guarded(char **error, Result failure, Body body) noexcept {
    try {
        return body();
    } catch (const std::exception &exception) {
        report(error, exception.what());
    } catch (...) {
        report(error, "unknown C++ exception");
    }
    return failure;
}

/// A copy in memory that the caller frees; never NULL, so that an empty result is not taken for a failure.
template <typename Element>
Element *copy(const Element *elements, size_t count) {
    void *memory = std::malloc(count * sizeof(Element) + 1);
    if (memory == nullptr) throw std::bad_alloc();
    if (count > 0) std::memcpy(memory, elements, count * sizeof(Element));
    return static_cast<Element *>(memory);
}

}  // namespace

extern "C" {

csentencepiece_model *csentencepiece_load(const void *bytes, size_t size, char **error) {
    return guarded<csentencepiece_model *>(error, nullptr, [&]() -> csentencepiece_model * {
        auto model = std::make_unique<csentencepiece_model>();
        const auto status = model->processor.LoadFromSerializedProto({static_cast<const char *>(bytes), size});
        if (!status.ok()) {
            report(error, status.ToString().c_str());
            return nullptr;
        }
        return model.release();
    });
}

void csentencepiece_free(csentencepiece_model *model) { delete model; }

int32_t csentencepiece_piece_count(const csentencepiece_model *model) { return model->processor.GetPieceSize(); }
int32_t csentencepiece_bos(const csentencepiece_model *model) { return model->processor.bos_id(); }
int32_t csentencepiece_eos(const csentencepiece_model *model) { return model->processor.eos_id(); }

int csentencepiece_encode(const csentencepiece_model *model, const char *text, size_t size, uint32_t **ids,
                          size_t *count, char **error) {
    return guarded(error, -1, [&] {
        std::vector<int> found;
        const auto status = model->processor.Encode({text, size}, &found);
        if (!status.ok()) {
            report(error, status.ToString().c_str());
            return -1;
        }
        *ids = reinterpret_cast<uint32_t *>(copy(found.data(), found.size()));
        *count = found.size();
        return 0;
    });
}

int csentencepiece_decode(const csentencepiece_model *model, const uint32_t *ids, size_t count, char **bytes,
                          size_t *size, char **error) {
    return guarded(error, -1, [&] {
        const std::vector<int> wanted(ids, ids + count);
        std::string text;
        const auto status = model->processor.Decode(wanted, &text);
        if (!status.ok()) {
            report(error, status.ToString().c_str());
            return -1;
        }
        *bytes = copy(text.data(), text.size());
        *size = text.size();
        return 0;
    });
}

}  // extern "C"
