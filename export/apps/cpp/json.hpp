// The part of JSON that a bundle's manifest is made of, read into one recursive value.
#pragma once

#include <cctype>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace json {

struct Value {
    enum class Kind { null, boolean, number, text, list, object } kind = Kind::null;
    bool boolean = false;
    double number = 0;
    std::string text;
    std::vector<Value> list;
    std::map<std::string, Value> object;

    const Value& operator[](const std::string& key) const {
        const auto found = object.find(key);
        if (found == object.end()) throw std::runtime_error("expected \"" + key + "\" in the manifest, found none");
        return found->second;
    }
    bool has(const std::string& key) const { return object.count(key) > 0; }
};

class Reader {
public:
    explicit Reader(const std::string& text) : text_(text) {}

    Value read() {
        Value value = next(0);
        space();
        if (at_ != text_.size()) fail("the end");
        return value;
    }

private:
    static constexpr int deepest = 64;

    Value next(int depth) {
        if (depth > deepest) fail("less nesting");
        space();
        if (at_ >= text_.size()) fail("a value");
        Value value;
        const char c = text_[at_];
        if (c == '{') {
            value.kind = Value::Kind::object;
            ++at_;
            for (bool first = true; !taken('}'); first = false) {
                if (!first) take(',');
                space();
                std::string key = quoted();
                take(':');
                value.object[std::move(key)] = next(depth + 1);
            }
        } else if (c == '[') {
            value.kind = Value::Kind::list;
            ++at_;
            for (bool first = true; !taken(']'); first = false) {
                if (!first) take(',');
                value.list.push_back(next(depth + 1));
            }
        } else if (c == '"') {
            value.kind = Value::Kind::text;
            value.text = quoted();
        } else if (word("true") || word("false")) {
            value.kind = Value::Kind::boolean;
            value.boolean = c == 't';
        } else if (!word("null")) {
            value.kind = Value::Kind::number;
            const char* begin = text_.c_str() + at_;
            char* end = nullptr;
            value.number = std::strtod(begin, &end);
            if (end == begin) fail("a value");
            at_ += static_cast<std::size_t>(end - begin);
        }
        return value;
    }

    std::string quoted() {
        take('"');
        std::string result;
        while (at_ < text_.size() && text_[at_] != '"') {
            char c = text_[at_++];
            if (c != '\\') {
                result += c;
                continue;
            }
            if (at_ >= text_.size()) break;
            c = text_[at_++];
            switch (c) {
                case 'n': result += '\n'; break;
                case 't': result += '\t'; break;
                case 'r': result += '\r'; break;
                case 'b': result += '\b'; break;
                case 'f': result += '\f'; break;
                case 'u': append(result, code()); break;
                default: result += c;
            }
        }
        take('"');
        return result;
    }

    unsigned code() {
        unsigned value = hexadecimal();
        if (value >= 0xD800 && value < 0xDC00 && text_.compare(at_, 2, "\\u") == 0) {
            at_ += 2;
            value = 0x10000 + ((value - 0xD800) << 10) + (hexadecimal() - 0xDC00);
        }
        return value;
    }

    unsigned hexadecimal() {
        if (at_ + 4 > text_.size()) fail("four digits");
        const std::string digits = text_.substr(at_, 4);
        at_ += 4;
        return static_cast<unsigned>(std::strtoul(digits.c_str(), nullptr, 16));
    }

    static void append(std::string& result, unsigned value) {
        if (value < 0x80) {
            result += static_cast<char>(value);
        } else if (value < 0x800) {
            result += static_cast<char>(0xC0 | (value >> 6));
            result += static_cast<char>(0x80 | (value & 0x3F));
        } else if (value < 0x10000) {
            result += static_cast<char>(0xE0 | (value >> 12));
            result += static_cast<char>(0x80 | ((value >> 6) & 0x3F));
            result += static_cast<char>(0x80 | (value & 0x3F));
        } else {
            result += static_cast<char>(0xF0 | (value >> 18));
            result += static_cast<char>(0x80 | ((value >> 12) & 0x3F));
            result += static_cast<char>(0x80 | ((value >> 6) & 0x3F));
            result += static_cast<char>(0x80 | (value & 0x3F));
        }
    }

    bool word(const char* expected) {
        const std::string wanted(expected);
        if (text_.compare(at_, wanted.size(), wanted) != 0) return false;
        at_ += wanted.size();
        return true;
    }

    void space() {
        while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    }

    bool taken(char c) {
        space();
        if (at_ < text_.size() && text_[at_] == c) {
            ++at_;
            return true;
        }
        return false;
    }

    void take(char c) {
        if (!taken(c)) fail(std::string("'") + c + "'");
    }

    [[noreturn]] void fail(const std::string& expected) const {
        throw std::runtime_error("expected " + expected + " in the manifest at byte " + std::to_string(at_));
    }

    const std::string& text_;
    std::size_t at_ = 0;
};

inline Value parse(const std::string& text) { return Reader(text).read(); }

}  // namespace json
