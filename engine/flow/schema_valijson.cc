/* See schema_valijson.h. libvalijson 1.0 walks schema and value; what it judges wrong or says badly
 * (numbers, lengths, patterns, formats, types, uniqueItems) is judged here, by a constraint of our
 * own under SCHEMA_LEAF. Its patternProperties match bytes, not characters.
 *
 * Numbers are given the form that makes 1 and 1.0 equal: whole ones are integers. */
#define VALIJSON_USE_EXCEPTIONS 1
#include <cerrno>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <memory>
#include <regex>
#include <string>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "flow/schema_valijson.h"

using nlohmann::json;
using valijson::ValidationResults;
using valijson::adapters::Adapter;
using context = std::vector<std::string>;

namespace
{
constexpr size_t MATCHED_MAX = 4096; /* characters of a text, bytes of a name, for a pattern */
constexpr size_t ERRORS_MAX = 2000;  /* then the rest of the value is not looked at */
constexpr size_t PROBLEMS_MAX = 20;  /* SCHEMA_PROBLEMS_MAX */
constexpr char MARK = '\x01';        /* around the keyword, in descriptions of our own */
constexpr const char *LEAF = "x-tm"; /* SCHEMA_LEAF */

struct enough {
}; /* thrown when ERRORS_MAX is reached */

/* ---- json-c to the library's tree; at most JS_DEPTH_MAX deep ---- */

json number(double d)
{
    if (d == std::floor(d) && d >= -9223372036854775808.0 && d < 9223372036854775808.0)
        return static_cast<int64_t>(d);
    return d;
}

json tree(struct json_object *o, size_t &longest)
{
    switch (json_object_get_type(o)) {
    case json_type_boolean:
        return json_object_get_boolean(o) != 0;
    case json_type_int:
        return json_object_get_int64(o);
    case json_type_double:
        return number(json_object_get_double(o));
    case json_type_string:
        return std::string(json_object_get_string(o),
                           static_cast<size_t>(json_object_get_string_len(o)));
    case json_type_array: {
        json list = json::array();
        for (size_t i = 0; i < json_object_array_length(o); i++)
            list.push_back(tree(json_object_array_get_idx(o, i), longest));
        return list;
    }
    case json_type_object: {
        json map = json::object();
        json_object_object_foreach(o, key, v)
        {
            map[key] = tree(v, longest);
            longest = std::max(longest, std::strlen(key));
        }
        return map;
    }
    default:
        return nullptr;
    }
}

/* ---- what we judge ourselves ---- */

size_t characters(const std::string &s)
{
    size_t n = 0;
    for (unsigned char c : s)
        n += (c & 0xC0) != 0x80;
    return n;
}

/* The texts are valid UTF-8 (js_parse). */
std::wstring wide(const std::string &s)
{
    std::wstring out;
    for (unsigned char c : s) {
        if ((c & 0xC0) == 0x80)
            out.back() = static_cast<wchar_t>((out.back() << 6) | (c & 0x3F));
        else
            out.push_back(static_cast<wchar_t>(c < 0x80   ? c
                                               : c < 0xE0 ? c & 0x1F
                                               : c < 0xF0 ? c & 0x0F
                                                          : c & 0x07));
    }
    return out;
}

std::string kind_of(const Adapter &v)
{
    return v.isString()    ? "a string"
           : v.isObject()  ? "an object"
           : v.isArray()   ? "an array"
           : v.isBool()    ? "a boolean"
           : v.isInteger() ? "an integer"
           : v.isNumber()  ? "a number"
                           : "null";
}

std::string article(const std::string &type)
{
    return type == "null" ? type : (std::strchr("aeiou", type[0]) ? "an " : "a ") + type;
}

bool is_type(const Adapter &v, const std::string &type)
{
    if (type == "integer")
        return v.isInteger() || (v.isDouble() && v.getDouble() == std::floor(v.getDouble()));
    return type == "string"    ? v.isString()
           : type == "object"  ? v.isObject()
           : type == "array"   ? v.isArray()
           : type == "boolean" ? v.isBool()
           : type == "number"  ? v.isNumber()
                               : v.isNull();
}

/* -1, 0, 1; whole numbers exactly. */
int compare(const Adapter &v, const json &limit)
{
    if (v.isInteger() && limit.is_number_integer()) {
        int64_t a = v.getInteger(), b = limit.get<int64_t>();
        return a < b ? -1 : a > b;
    }
    double a = v.getNumber(), b = limit.get<double>();
    return a < b ? -1 : a > b;
}

bool is_multiple(const Adapter &v, const json &divisor)
{
    if (v.isInteger() && divisor.is_number_integer())
        return v.getInteger() % divisor.get<int64_t>() == 0;
    double q = v.getNumber() / divisor.get<double>();
    return std::isfinite(q) &&
           std::fabs(q - std::nearbyint(q)) <= 4 * DBL_EPSILON * std::max(1.0, std::fabs(q));
}

/* One text for equal values; members are sorted by the library. */
void canon(const Adapter &v, std::string &out)
{
    if (v.isArray()) {
        out += '[';
        v.applyToArray([&](const Adapter &x) {
            canon(x, out);
            out += ',';
            return true;
        });
        out += ']';
    } else if (v.isObject()) {
        out += '{';
        v.applyToObject([&](const std::string &k, const Adapter &x) {
            out += json(k).dump() + ':';
            canon(x, out);
            out += ',';
            return true;
        });
        out += '}';
    } else {
        out += v.isString()    ? json(v.getString()).dump()
               : v.isInteger() ? json(v.getInteger()).dump()
               : v.isDouble()  ? json(v.getDouble()).dump()
               : v.isBool()    ? (v.getBool() ? "true" : "false")
                               : "null";
    }
}

struct leaf {
    json rules;
    std::vector<std::string> types;
    std::wregex pattern;
    bool has_pattern = false;
};

[[noreturn]] void bad_pattern(const json &rules, const std::string &pattern,
                              const std::regex_error &e)
{
    throw std::runtime_error(rules.value("at", "") + "\nthe pattern \"" + pattern.substr(0, 100) +
                             "\" is not a regular expression: " + e.what());
}

std::shared_ptr<const leaf> leaf_make(const std::string &text)
{
    auto l = std::make_shared<leaf>();
    l->rules = json::parse(text);
    for (auto &rule : l->rules)
        if (rule.is_number_float())
            rule = number(rule.get<double>());
    auto type = l->rules.find("type");
    if (type != l->rules.end() && type->is_array())
        l->types = type->get<std::vector<std::string>>();
    else if (type != l->rules.end())
        l->types.push_back(type->get<std::string>());
    auto pattern = l->rules.find("pattern");
    if (pattern != l->rules.end()) {
        try {
            l->pattern = std::wregex(wide(pattern->get<std::string>()));
        } catch (const std::regex_error &e) {
            bad_pattern(l->rules, pattern->get<std::string>(), e);
        }
        l->has_pattern = true;
    }
    for (const json &name : l->rules.value("names", json::array())) {
        try {
            std::regex tried(name.get<std::string>());
        } catch (const std::regex_error &e) {
            bad_pattern(l->rules, name.get<std::string>(), e);
        }
    }
    return l;
}

/* One value and what is wrong with it. */
struct judge {
    const leaf &m;
    const Adapter &v;
    const context &at;
    ValidationResults *results; /* null: nobody asks what is wrong */
    bool ok = true;

    const json *rule(const char *name) const
    {
        auto i = m.rules.find(name);
        return i == m.rules.end() ? nullptr : &*i;
    }
    void fail(const char *keyword, const std::string &text)
    {
        ok = false;
        if (results)
            results->pushError(at, MARK + std::string(keyword) + MARK + text);
    }
    void never();
    void types();
    void numbers();
    void texts(const std::string &s);
    void unique();
};

void judge::never()
{
    const json *n = rule("never");
    if (n && *n == "propertyNames")
        fail("propertyNames", "has a property whose name is not allowed");
    else if (n)
        fail("false", "is not allowed");
}

void judge::types()
{
    std::string wanted;
    for (const std::string &t : m.types) {
        if (is_type(v, t))
            return;
        wanted += (wanted.empty() ? "" : " or ") + article(t);
    }
    if (!m.types.empty())
        fail("type", "must be " + wanted + ", but is " + kind_of(v));
}

void judge::numbers()
{
    const json *n;
    if ((n = rule("minimum")) && compare(v, *n) < 0)
        fail("minimum", "must be at least " + n->dump());
    if ((n = rule("maximum")) && compare(v, *n) > 0)
        fail("maximum", "must be at most " + n->dump());
    if ((n = rule("exclusiveMinimum")) && compare(v, *n) <= 0)
        fail("exclusiveMinimum", "must be above " + n->dump());
    if ((n = rule("exclusiveMaximum")) && compare(v, *n) >= 0)
        fail("exclusiveMaximum", "must be below " + n->dump());
    if ((n = rule("multipleOf")) && !is_multiple(v, *n))
        fail("multipleOf", "must be a multiple of " + n->dump());
}

void judge::texts(const std::string &s)
{
    const json *n;
    if ((n = rule("minLength")) && static_cast<int64_t>(characters(s)) < n->get<int64_t>())
        fail("minLength", "must have at least " + n->dump() + " characters");
    if ((n = rule("maxLength")) && static_cast<int64_t>(characters(s)) > n->get<int64_t>())
        fail("maxLength", "must have at most " + n->dump() + " characters");
    if ((n = rule("format")) &&
        !schema_format_judge(n->get<std::string>().c_str(), s.data(), s.size()))
        fail("format", "must be a valid " + n->get<std::string>());
    if (m.has_pattern && characters(s) > MATCHED_MAX)
        fail("pattern", "is longer than 4096 characters, too long for a pattern");
    else if (m.has_pattern && !std::regex_search(wide(s), m.pattern))
        fail("pattern", "does not match the pattern " + rule("pattern")->get<std::string>());
}

void judge::unique()
{
    const json *n = rule("uniqueItems");
    std::unordered_map<std::string, size_t> seen;
    size_t i = 0, twice = 0, first = 0;
    if (!n || !n->get<bool>())
        return;
    v.applyToArray([&](const Adapter &x) {
        std::string text;
        canon(x, text);
        auto put = seen.emplace(std::move(text), i);
        if (!put.second) {
            twice = i;
            first = put.first->second;
        }
        i++;
        return put.second;
    });
    if (twice)
        fail("uniqueItems", "the elements " + std::to_string(first) + " and " +
                                std::to_string(twice) + " are equal");
}

class Leaf : public valijson::constraints::PolyConstraint
{
  public:
    explicit Leaf(std::shared_ptr<const leaf> l) : m(std::move(l))
    {
    }

    bool validate(const Adapter &v, const context &at, ValidationResults *results) const override
    {
        judge j{*m, v, at, results};
        if (results && results->numErrors() > ERRORS_MAX)
            throw enough();
        j.never();
        j.types();
        if (v.isNumber())
            j.numbers();
        if (v.isString())
            j.texts(v.getString());
        if (v.isArray())
            j.unique();
        return j.ok;
    }

  private:
    std::shared_ptr<const leaf> m;

    valijson::constraints::Constraint *cloneInto(void *p) const override
    {
        return new (p) Leaf(*this);
    }
    size_t sizeOf() const override
    {
        return sizeof(Leaf);
    }
};

struct LeafBuilder : valijson::ConstraintBuilder {
    valijson::constraints::Constraint *make(const Adapter &node) const override
    {
        return new Leaf(leaf_make(node.getString()));
    }
};

/* ---- the library's descriptions in words that say what is wrong with the value ---- */

const struct {
    const char *begin, *keyword, *text; /* text NULL: said by what is inside */
    bool rest;                          /* what follows `begin` stays, but for a full stop */
} descriptions[] = {
    {"Failed to validate against any schemas allowed by anyOf", "anyOf",
     "fits none of the schemas of anyOf", false},
    {"Failed to validate against any child schemas allowed by oneOf", "oneOf",
     "fits none of the schemas of oneOf", false},
    {"Failed to validate against exactly one", "oneOf",
     "fits more than one of the schemas of oneOf", false},
    {"Target should not validate", "not", "fits the schema of not", false},
    {"Failed to match expected value", "const", "must be the value of const", false},
    {"Failed to match against any enum", "enum", "must be one of the values of enum", false},
    {"Failed to any values against", "contains", "no element fits contains", false},
    {"Array should contain no more than ", "maxItems", "must have at most ", true},
    {"Array should contain no fewer than ", "minItems", "must have at least ", true},
    {"Object should have no more than ", "maxProperties", "must have at most ", true},
    {"Object should have no fewer than ", "minProperties", "must have at least ", true},
    {"Missing required property ", "required", "lacks the property ", true},
    {"Missing dependency ", "dependencies", "lacks the property that others need: ", true},
    {"Failed to validate", "", nullptr, false},
};

struct problem {
    std::string pointer, keyword, message;
};

/* False: it says nothing that its parts do not say. */
bool read_problem(const ValidationResults::Error &e, problem &p)
{
    const std::string &d = e.description;
    p = {};
    for (size_t i = 1; i < e.context.size(); i++) { /* "<root>", "[name]", "[0]" */
        p.pointer += '/';
        for (char c : e.context[i].substr(1, e.context[i].size() - 2))
            p.pointer += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    }
    size_t cut = d.find(MARK, 1);
    if (d[0] == MARK && cut != std::string::npos) {
        p.keyword = d.substr(1, cut - 1);
        p.message = d.substr(cut + 1);
        return true;
    }
    for (const auto &x : descriptions) {
        size_t n = std::strlen(x.begin);
        if (d.compare(0, n, x.begin) != 0)
            continue;
        if (!x.text)
            return false;
        p.keyword = x.keyword;
        p.message = x.text + (x.rest ? d.substr(n, d.size() - n - (d.back() == '.')) : "");
        return true;
    }
    p.message = d;
    return true;
}

json put(const problem &p)
{
    json o = {{"pointer", p.pointer}, {"message", p.message}};
    if (!p.keyword.empty())
        o["keyword"] = p.keyword;
    return o;
}

json put_problems(const ValidationResults &results, bool valid)
{
    json list = json::array();
    size_t all = 0;
    problem p;
    for (const auto &e : results)
        all += read_problem(e, p);
    size_t told = all > PROBLEMS_MAX ? PROBLEMS_MAX - 1 : all;
    for (const auto &e : results)
        if (list.size() < told && read_problem(e, p))
            list.push_back(put(p));
    if (all > told)
        list.push_back(put({"", "", "and " + std::to_string(all - told) + " more problems"}));
    if (!valid && !all)
        list.push_back(put({"", "", "does not fit the schema"}));
    return list;
}

void say(char *why, size_t size, const char *text)
{
    (void)snprintf(why, size, "%s", text);
}
} // namespace

struct schema_valid {
    valijson::Schema schema;
    bool has_names = false; /* patternProperties somewhere */
};

struct schema_valid *schema_valid_new(struct json_object *prepared, char *why, size_t why_size)
{
    try {
        size_t longest = 0;
        json document = tree(prepared, longest);
        auto s = std::make_unique<schema_valid>();
        valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
        parser.addConstraintBuilder(LEAF, new LeafBuilder());
        parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(document), s->schema);
        s->has_names = document.dump().find("\"patternProperties\":") != std::string::npos;
        return s.release();
    } catch (const std::exception &e) {
        say(why, why_size, e.what());
    }
    return nullptr;
}

void schema_valid_free(struct schema_valid *s)
{
    delete s;
}

int schema_valid_run(const struct schema_valid *s, struct json_object *value, char **ret, char *why,
                     size_t why_size)
{
    try {
        size_t longest = 0;
        bool valid = false;
        json document = tree(value, longest);
        ValidationResults results;
        if (s->has_names && longest > MATCHED_MAX) {
            say(why, why_size,
                "a property's name is longer than 4096 bytes, too long for a pattern");
            return -EINVAL;
        }
        try {
            valijson::Validator validator;
            valid = validator.validate(s->schema, valijson::adapters::NlohmannJsonAdapter(document),
                                       &results);
        } catch (const enough &) {
        }
        *ret = strdup(put_problems(results, valid)
                          .dump(-1, ' ', false, json::error_handler_t::replace)
                          .c_str());
        return *ret ? 0 : -EINVAL;
    } catch (const std::exception &e) {
        say(why, why_size, e.what());
    }
    return -EINVAL;
}
