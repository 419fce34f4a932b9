// SPDX-License-Identifier: Apache-2.0
//
// A guest in C++17: what is made is given back at the end of its scope, and what goes wrong is an
// exception.
//
//     c++ embed.cc -o embed $(pkg-config --cflags --libs veneer)
//     ./embed [OPTION=VALUE]...
#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#include <veneer.h>

namespace
{

using Options = std::vector<std::pair<std::string, std::string>>;

struct Free {
	void operator()(veneer_config *config) const
	{
		veneer_config_free(config);
	}

	void operator()(veneer *vm) const
	{
		veneer_destroy(vm);
	}
};

[[noreturn]] void fail(const veneer_error &error)
{
	throw std::runtime_error(error.message);
}

class Guest
{
      public:
	explicit Guest(const Options &options)
	{
		veneer_error error;
		veneer_config *config;
		if (veneer_config_new(&config, &error) < 0)
			fail(error);
		std::unique_ptr<veneer_config, Free> owner(config);
		for (const auto &[name, value] : options)
			if (veneer_config_set(config, name.c_str(), value.c_str(), &error) < 0)
				fail(error);
		veneer *vm;
		if (veneer_create(&vm, config, nullptr, &error) < 0)
			fail(error);
		vm_.reset(vm);
	}

	// Start the guest and wait for its end: its exit status.
	std::uint32_t run()
	{
		veneer_error error;
		veneer_event end;
		if (veneer_start(vm_.get(), &error) < 0 ||
			veneer_wait(vm_.get(), -1, &end, sizeof(end), &error) < 0)
			fail(error);
		if (end.end != VENEER_END_EXIT)
			throw std::runtime_error(
				std::string("the guest did not exit: ") + end.message);
		return end.value;
	}

      private:
	std::unique_ptr<veneer, Free> vm_;
};

Options parse(int argc, char *argv[])
{
	Options options;
	for (int i = 1; i < argc; i++) {
		std::string word = argv[i];
		auto equals = word.find('=');
		if (equals == std::string::npos)
			throw std::runtime_error(word + " is not OPTION=VALUE");
		options.emplace_back(word.substr(0, equals), word.substr(equals + 1));
	}
	if (options.empty())
		options = {{"cmdline", "exit=5"}, {"memory", "64M"}};
	return options;
}

} // namespace

int main(int argc, char *argv[])
{
	try {
		Guest guest(parse(argc, argv));
		const auto status = guest.run();
		std::cout << "the guest's status is " << status << '\n';
		return 0;
	} catch (const std::exception &error) {
		std::cerr << error.what() << '\n';
		return 1;
	}
}
